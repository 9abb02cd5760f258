"""The provider simulator's batch API of Gemini: uploads, operations, files, limits, ledger."""
import json

import pytest

from batch_clients import Gemini, QUICK, billed, ledger


def test_gemini_answers_a_file_as_it_would_online(provider):
    p = provider(*QUICK)
    api = Gemini(p)
    lines = [{"key": f"row-{i}", "request": api.request(i, n=20)} for i in range(25)]
    job = api.create(lines)
    assert job["name"].startswith("batches/") and "done" not in job
    meta = job["metadata"]
    assert (meta["model"], meta["displayName"]) == ("models/gemini-2.5-flash", "job-a1")
    assert meta["state"] == "BATCH_STATE_PENDING" and meta["@type"].endswith(".GenerateContentBatch")
    done = api.ended(job)
    assert done["metadata"]["batchStats"] == {"requestCount": "25", "successfulRequestCount": "25"}
    rows = api.rows(done)
    assert [row["key"] for row in rows] == [line["key"] for line in lines]
    for line, row in zip(lines, rows):
        online = api.call("POST", f"/v1beta/models/{api.model}:generateContent", line["request"])
        assert row["response"]["candidates"] == online["candidates"]
        assert row["response"]["usageMetadata"] == online["usageMetadata"]
    lines_billed = ledger(p)
    assert billed(lines_billed) == {line["key"]: 1 for line in lines}
    cost = {price: sum((x["input_tokens"] + x["output_tokens"]) * x["price"] for x in lines_billed
                       if x["price"] == price) for price in (0.5, 1)}
    assert cost[0.5] * 2 == cost[1] > 0


def test_gemini_answers_inlined_requests_in_their_order(provider):
    api = Gemini(provider(*QUICK, "--batch-fault", "shuffle=1"))
    lines = [{"request": api.request(i), "metadata": {"key": f"row-{i}"}} for i in range(20)]
    lines[7]["request"] = {"contents": []}
    done = api.ended(api.create_inline(lines))
    rows = done["response"]["inlinedResponses"]["inlinedResponses"]
    assert done["metadata"]["output"] == done["response"]
    assert [row["metadata"]["key"] for row in rows] == [f"row-{i}" for i in range(20)]
    assert rows[7]["error"]["code"] == 3 and "response" not in rows[7]
    assert all(row["response"]["candidates"] for i, row in enumerate(rows) if i != 7)
    assert done["metadata"]["batchStats"]["failedRequestCount"] == "1"
    (listed,) = api.call("GET", "/v1beta/batches")["operations"]
    assert listed["done"] and "response" not in listed and "output" not in listed["metadata"]


def test_gemini_takes_both_spellings(provider):
    api = Gemini(provider(*QUICK))
    name = api.file([{"key": "a", "request": api.request(1)}])
    path = f"/v1beta/models/{api.model}:batchGenerateContent"
    job = api.call("POST", path, {"batch": {"display_name": "n", "input_config": {"file_name": name}}})
    assert job["metadata"]["displayName"] == "n" and len(api.rows(api.ended(job))) == 1
    job = api.call("POST", path, {"batch": {"display_name": "n", "input_config": {
        "requests": {"requests": [{"request": api.request(1), "metadata": {"key": "k"}}]}}}})
    assert len(api.ended(job)["response"]["inlinedResponses"]["inlinedResponses"]) == 1


def test_gemini_embeds(provider):
    api = Gemini(provider(*QUICK))
    api.model = "gemini-embedding-001"
    request = {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 6}
    done = api.ended(api.create([{"key": f"k{i}", "request": request} for i in range(5)],
                                method="asyncBatchEmbedContent"))
    online = api.call("POST", f"/v1beta/models/{api.model}:batchEmbedContents",
                      {"requests": [{"model": "models/" + api.model, **request}]})
    for row in api.rows(done):
        assert row["response"]["embedding"] == online["embeddings"][0]
        assert len(row["response"]["embedding"]["values"]) == 6


@pytest.mark.parametrize("names, heads", [("job", {"JOB"}), ("batch", {"BATCH"}), ("mixed", {"JOB", "BATCH"})])
def test_gemini_names_states_in_either_way(provider, names, heads):
    api = Gemini(provider("--batch-time", "1h", "--batch-states", names))
    job = api.create_inline([{"request": api.request(1)}])
    assert {api.get(job)["metadata"]["state"].split("_")[0] for _ in range(4)} == heads


def test_gemini_upload_can_be_resumed(provider):
    api = Gemini(provider(*QUICK))
    data = json.dumps({"key": "a", "request": api.request(1)}).encode() + b"\n"
    _, headers, _ = api.start(len(data))
    path = "/" + headers["x-goog-upload-url"].split("/", 3)[3]

    def send(command, offset=None, body=b""):
        more = {} if offset is None else {"X-Goog-Upload-Offset": str(offset)}
        return api.send("POST", path, body, {"X-Goog-Upload-Command": command, **more})

    assert send("upload", 0, data[:40])[1]["x-goog-upload-size-received"] == "40"
    status, headers, _ = send("query")
    assert (headers["x-goog-upload-status"], headers["x-goog-upload-size-received"]) == ("active", "40")
    assert send("upload", 30, data[30:])[0] == 400  # not where it stands
    assert send("upload, finalize", 40, data[40:50])[0] == 400  # fewer bytes than announced
    status, _, raw = send("upload, finalize", 50, data[50:])
    assert status == 200
    name = json.loads(raw)["file"]["name"]
    assert len(api.rows(api.ended(api.post({"fileName": name})))) == 1
    assert send("query")[0] == 404
    _, headers, _ = api.start(5)
    path = "/" + headers["x-goog-upload-url"].split("/", 3)[3]
    assert (send("cancel")[0], send("query")[0]) == (200, 404)


def test_gemini_files_are_looked_at_before_they_can_be_used(provider):
    api = Gemini(provider("--batch-file-time", "1h"))
    made = api.upload(b'{"key":"a"}\n')
    assert made["state"] == "PROCESSING"
    refused = api.post({"fileName": made["name"]}, status=400)
    assert refused["error"]["status"] == "FAILED_PRECONDITION"


def test_gemini_gives_out_generated_files_alone(provider):
    api = Gemini(provider(*QUICK))
    mine = api.file([{"key": "a", "request": api.request(1)}])
    file = api.ended(api.post({"fileName": mine}))["response"]["responsesFile"]
    assert api.send("GET", f"/download/v1beta/{mine}:download?alt=media")[0] == 400
    assert api.send("GET", f"/download/v1beta/{file}:download")[0] == 400
    assert {f["name"] for f in api.call("GET", "/v1beta/files")["files"]} == {mine, file}
    other = Gemini(api.provider, "other")
    assert other.send("GET", f"/download/v1beta/{file}:download?alt=media")[0] == 403
    assert other.call("GET", "/v1beta/files")["files"] == []
    assert api.call("DELETE", "/v1beta/" + mine) == {}
    assert api.send("GET", "/v1beta/" + mine)[0] == 403


@pytest.mark.parametrize("data, words", [
    (b'{"key":"a","request":{}}\n{oops\n', "Line 2"), (b'\xef\xbb\xbf{"key":"a","request":{}}\n', "Line 1"),
    (b'{"key":"a"}\n', "Line 1"), (b"", "empty"),
])
def test_gemini_fails_with_an_error_on_top(provider, data, words):
    api = Gemini(provider(*QUICK))
    failed = api.ended(api.post({"fileName": api.upload(data)["name"]}), "FAILED")
    assert failed["error"]["code"] == 3 and words in failed["error"]["message"] and "response" not in failed


@pytest.mark.parametrize("status, body", [
    (400, {}), (400, {"batch": {}}), (400, {"batch": {"inputConfig": {"requests": []}}}),
    (400, {"batch": {"inputConfig": {"requests": {"requests": []}}}}), (400, {"other": 1}),
    (400, {"batch": {"inputConfig": {"fileName": "files/x", "requests": {"requests": [{}]}}}}),
    (400, {"batch": {"surprise": 1, "inputConfig": {"fileName": "files/x"}}}),
    (404, {"batch": {"inputConfig": {"fileName": "files/none"}}}),
])
def test_gemini_refuses_jobs(provider, status, body):
    api = Gemini(provider(*QUICK))
    refused = api.call("POST", f"/v1beta/models/{api.model}:batchGenerateContent", body, status)
    assert refused["error"]["code"] == status
    assert api.call("GET", "/v1beta/batches")["operations"] == []


def test_gemini_refuses_too_much_inside_a_request(provider):
    api = Gemini(provider(*QUICK))
    body = b'{"batch":{"inputConfig":{"requests":{"requests":[{}' + b" " * 21_000_000 + b"]}}}}"
    status, _, raw = api.send("POST", f"/v1beta/models/{api.model}:batchGenerateContent", body)
    assert status == 400 and "payload size" in json.loads(raw)["error"]["message"]


def test_gemini_wants_the_key(provider):
    api = Gemini(provider(*QUICK, "--api-key", "right"), "wrong")
    for status, _, raw in (api.send("GET", "/v1beta/batches"), api.start(5),
                           api.send("POST", f"/v1beta/models/{api.model}:batchGenerateContent", b"{}")):
        assert status == 400 and json.loads(raw)["error"]["details"][0]["reason"] == "API_KEY_INVALID"


def test_gemini_keeps_nothing_of_a_cancelled_or_expired_job(provider):
    api = Gemini(provider(*QUICK, "--batch-fault", "expire=1"))
    lines = [{"key": f"k{i}", "request": api.request(i)} for i in range(10)]
    expired = api.ended(api.create(lines), "EXPIRED")
    assert expired["error"]["code"] == 4 and "response" not in expired
    api = Gemini(provider(*QUICK, "--batch-fault", "stall=1"))
    job = api.create(lines)
    assert api.call("POST", f"/v1beta/{job['name']}:cancel", {}) == {}
    cancelled = api.ended(job, "CANCELLED")
    assert cancelled["error"]["code"] == 1 and "output" not in cancelled["metadata"]
    assert api.call("POST", f"/v1beta/{job['name']}:cancel", {}, status=400)


def test_gemini_delete_stops_a_job_and_removes_it(provider):
    api = Gemini(provider("--batch-time", "1h"))
    jobs = [api.create_inline([{"request": api.request(i)}], name=f"j{i}") for i in range(5)]
    assert api.call("DELETE", "/v1beta/" + jobs[2]["name"]) == {}
    assert api.call("GET", "/v1beta/" + jobs[2]["name"], status=404)["error"]["status"] == "NOT_FOUND"
    seen, token = [], ""
    while True:
        page = api.call("GET", "/v1beta/batches?pageSize=2" + token)
        seen += [job["metadata"]["displayName"] for job in page["operations"]]
        if "nextPageToken" not in page:
            break
        token = "&pageToken=" + page["nextPageToken"]
    assert seen == ["j4", "j3", "j1", "j0"]


def test_gemini_queue_has_an_end(provider):
    api = Gemini(provider("--batch-time", "1h", "--batch-enqueued-tokens", "1000"))
    line = {"request": {"contents": [{"parts": [{"text": "x" * 2400}]}]}}
    api.create_inline([line])
    refused = api.create_inline([line], status=429)
    assert refused["error"]["status"] == "RESOURCE_EXHAUSTED"
    api.model = "gemini-2.5-pro"
    api.create_inline([line])
    some = Gemini(provider("--batch-time", "1h", "--batch-jobs", "2"))
    for status in (200, 200, 429):
        some.create_inline([line], status=status)
