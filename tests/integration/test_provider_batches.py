"""The provider simulator's batch APIs of OpenAI, Azure OpenAI and Anthropic: states, files, limits, ledger."""
import itertools
import json
import pathlib

import pytest

from batch_clients import (
    Anthropic, Api, Azure, BOM, OpenAI, QUICK, billed, changed, form, ledger, openai_ids, types)
from conftest import RELEASE_BIN, Box, Simulator, wait_for


# --- OpenAI --------------------------------------------------------------------------------------


def test_openai_answers_every_line_as_it_would_online(provider):
    p = provider(*QUICK)
    api = OpenAI(p)
    lines = [api.line(i, n=20) for i in range(30)]
    job = api.create(lines, metadata={"run": "a1"})
    assert (job["object"], job["status"], job["output_file_id"]) == ("batch", "validating", None)
    done = api.ended(job)
    assert done["request_counts"] == {"total": 30, "completed": 30, "failed": 0}
    assert done["metadata"] == {"run": "a1"} and done["error_file_id"] is None
    assert done["created_at"] <= done["in_progress_at"] <= done["finalizing_at"] <= done["completed_at"]
    rows = api.rows(done)
    assert openai_ids(rows) == [line["custom_id"] for line in lines]
    for line, row in zip(lines, rows):
        assert (row["response"]["status_code"], row["error"]) == (200, None)
        online = api.call("POST", api.url, line["body"])
        body = row["response"]["body"]
        assert body["choices"] == online["choices"] and body["usage"] == online["usage"]
        assert len(json.loads(body["choices"][0]["message"]["content"])) == 20
    usage = done["usage"]
    assert usage["input_tokens"] == sum(r["response"]["body"]["usage"]["prompt_tokens"] for r in rows)
    lines_billed = ledger(p)
    assert billed(lines_billed) == {f"row-{i}": 1 for i in range(30)}
    cost = {price: sum((x["input_tokens"] + x["output_tokens"]) * x["price"] for x in lines_billed
                       if x["price"] == price) for price in (0.5, 1)}
    assert cost[0.5] * 2 == cost[1] > 0


def test_openai_runs_are_the_same_for_the_same_seed(provider):
    outputs = []
    for _ in range(2):
        api = OpenAI(provider(*QUICK, "--seed", "5", "--fault", "missing=0.3", "--batch-fault", "row-error=0.2"))
        done = api.ended(api.create([api.line(i) for i in range(40)]))
        outputs.append((api.content(done["output_file_id"]), api.content(done["error_file_id"])))
    assert outputs[0] == outputs[1] and all(outputs[0])


@pytest.mark.parametrize("code, at, spoil", [
    ("invalid_json_line", 2, lambda line: changed(line) + b"{oops\n" + changed(line, custom_id="c")),
    ("invalid_json_line", 1, lambda line: BOM + changed(line)),
    ("invalid_json_line", 1, lambda line: json.dumps(line, indent=1).encode()),
    ("invalid_json_line", 2, lambda line: changed(line) + b"\n" + changed(line, custom_id="c")),
    ("duplicate_custom_id", 2, lambda line: changed(line) + changed(line)),
    ("missing_required_parameter", 1, lambda line: changed(line, custom_id=7)),
    ("url_mismatch", 2, lambda line: changed(line) + changed(line, custom_id="b", url="/v1/embeddings")),
    ("invalid_method", 1, lambda line: changed(line, method="GET")),
    ("model_mismatch", 2, lambda line: changed(line) + changed(
        line, custom_id="b", body={**line["body"], "model": "another"})),
    ("too_many_tasks", 4, lambda line: b"".join(changed(line, custom_id=str(i)) for i in range(5))),
    ("empty_file", None, lambda line: b""),
])
def test_openai_fails_a_file_with_a_bad_line(provider, code, at, spoil):
    api = OpenAI(provider(*QUICK, "--batch-rows", "3"))
    failed = api.ended(api.create(spoil(api.line(0))), "failed")
    first = failed["errors"]["data"][0]
    assert (first["code"], first["line"]) == (code, at)
    assert failed["output_file_id"] is None and failed["error_file_id"] is None


def test_openai_puts_refused_lines_into_the_error_file(provider):
    api = OpenAI(provider(*QUICK, "--max-context-tokens", "50"))
    good = api.line(1, n=1)
    good["body"]["messages"][0]["content"] = "Is this positive? Great."
    bad = [api.line(2, n=9), api.line(3)]
    bad[1]["body"]["nonsense"] = 1
    done = api.ended(api.create([good, *bad]))
    assert done["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
    assert openai_ids(api.rows(done)) == ["row-1"]
    failed = api.failed_rows(done)
    assert openai_ids(failed) == ["row-2", "row-3"]
    assert [row["response"]["status_code"] for row in failed] == [400, 400]
    assert failed[0]["response"]["body"]["error"]["code"] == "context_length_exceeded"
    assert all(row["error"] is None for row in failed)


def test_openai_without_a_good_line_has_no_output_file(provider):
    api = OpenAI(provider(*QUICK, "--fault", "500=1"))
    done = api.ended(api.create([api.line(i) for i in range(3)]))
    assert done["output_file_id"] is None
    assert [row["response"]["status_code"] for row in api.failed_rows(done)] == [500] * 3


@pytest.mark.parametrize("path, body, field", [
    ("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["a", "b"]}, "data"),
    ("/v1/responses", {"model": "gpt-5.4-mini", "input": "Is this positive? Great."}, "output"),
])
def test_openai_serves_embeddings_and_responses(provider, path, body, field):
    api = OpenAI(provider(*QUICK))
    api.url = path
    lines = [{"custom_id": f"r{i}", "method": "POST", "url": path, "body": body} for i in range(3)]
    rows = api.rows(api.ended(api.create(lines)))
    online = api.call("POST", path, body)
    for row in rows:
        assert len(row["response"]["body"][field]) == len(online[field]) > 0


@pytest.mark.parametrize("status, name, purpose, data, boundary", [
    (400, "in.json", b"batch", b"{}", None),
    (400, "in.jsonl", b"other", b"{}", None),
    (413, "in.jsonl", b"batch", b"x" * 3000, None),
    (400, "in.jsonl", b"batch", b"{}", "another"),
])
def test_openai_refuses_uploads(provider, status, name, purpose, data, boundary):
    api = OpenAI(provider("--batch-bytes", "2kB"))
    body, headers = form([("purpose", None, purpose), ("file", name, data)])
    if boundary:
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = api.send("POST", "/v1/files", body, headers)
    assert answer[0] == status and "message" in json.loads(answer[2])["error"]
    body, headers = form([("purpose", None, b"batch")])
    assert api.send("POST", "/v1/files", body, headers)[0] == 400
    assert api.call("GET", "/v1/files")["data"] == []


@pytest.mark.parametrize("change", [
    {"endpoint": "/v1/images"}, {"completion_window": "12h"}, {"input_file_id": "file-none"}, {"surprise": 1},
    {"metadata": {str(i): "x" for i in range(17)}}, {"metadata": {"k": "x" * 513}}, {"metadata": {"k" * 65: "x"}},
    {"output_expires_after": {"anchor": "created_at", "seconds": 60}},
])
def test_openai_refuses_jobs(provider, change):
    api = OpenAI(provider(*QUICK))
    request = {**api.request(api.file([api.line(1)])), **change}
    assert "message" in api.call("POST", "/v1/batches", request, status=400)["error"]
    assert api.call("GET", "/v1/batches")["data"] == []


def test_openai_wants_the_key_and_hides_what_belongs_to_another(provider):
    p = provider(*QUICK)
    api, other = OpenAI(p), OpenAI(p, key="other")
    job = api.create([api.line(1)])
    assert other.call("GET", f"/v1/batches/{job['id']}", status=404)["error"]["type"] == "invalid_request_error"
    assert other.call("GET", f"/v1/files/{job['input_file_id']}", status=404)
    assert other.call("GET", "/v1/batches")["data"] == other.call("GET", "/v1/files")["data"] == []
    locked = OpenAI(provider("--api-key", "right"), key="wrong")
    assert locked.call("GET", "/v1/batches", status=401)["error"]["code"] == "invalid_api_key"
    assert locked.upload(b"{}")[0] == 401


def test_openai_lists_the_newest_first_page_by_page(provider):
    api = OpenAI(provider("--batch-time", "1h"))
    jobs = [api.create([api.line(i)], metadata={"n": str(i)})["id"] for i in range(7)]
    seen, after = [], ""
    for n in itertools.count():
        page = api.call("GET", "/v1/batches?limit=3" + after)
        seen += [job["id"] for job in page["data"]]
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        after = "&after=" + page["last_id"]
        if not page["has_more"]:
            break
    assert seen == jobs[::-1] and n == 2
    assert api.call("GET", "/v1/batches?limit=101", status=400)
    files = api.call("GET", "/v1/files?order=asc&limit=2")
    assert len(files["data"]) == 2 and files["has_more"]


def test_openai_deletes_files(provider):
    api = OpenAI(provider(*QUICK))
    done = api.ended(api.create([api.line(1)]))
    for file in (done["input_file_id"], done["output_file_id"]):
        assert api.call("DELETE", f"/v1/files/{file}") == {"id": file, "object": "file", "deleted": True}
        assert api.call("GET", f"/v1/files/{file}/content", status=404)
    assert api.get(done)["status"] == "completed"


def test_openai_cancel_keeps_what_was_answered(provider):
    api = OpenAI(provider(*QUICK, "--batch-fault", "stall=1"))
    job = api.create([api.line(i) for i in range(100)])
    wait_for("60 answers", lambda: api.get(job)["request_counts"]["completed"] == 60)
    assert api.call("POST", f"/v1/batches/{job['id']}/cancel")["status"] == "cancelling"
    done = api.ended(job, "cancelled")
    rows, failed = api.rows(done), api.failed_rows(done)
    assert (len(rows), len(failed)) == (60, 40)
    assert {row["error"]["code"] for row in failed} == {"batch_cancelled"}
    assert all(row["response"] is None for row in failed)
    assert api.call("POST", f"/v1/batches/{job['id']}/cancel", status=409)


def test_openai_expires_by_its_validity(provider):
    api = OpenAI(provider("--batch-time", "1h", "--batch-validity", "300ms", "--batch-fault", "stall=1"))
    # validation alone would take six minutes
    job = api.create([api.line(i) for i in range(10)])
    assert job["expires_at"] >= job["created_at"]
    done = api.ended(job, "expired")
    assert {row["error"]["code"] for row in api.failed_rows(done)} == {"batch_expired"}


def test_openai_forgets_files_after_their_time(provider):
    api = OpenAI(provider(*QUICK, "--batch-keep", "3s"))
    done = api.ended(api.create([api.line(1)]))
    file = f"/v1/files/{done['output_file_id']}/content"
    wait_for("the end of the file", lambda: api.send("GET", file)[0] == 404)


# --- Anthropic -----------------------------------------------------------------------------------


def test_anthropic_answers_every_request_as_it_would_online(provider):
    p = provider(*QUICK)
    api = Anthropic(p)
    lines = [api.line(i, n=20) for i in range(25)] + [api.line(99, model="claude-sonnet-5")]
    job = api.create(lines)
    assert (job["type"], job["processing_status"], job["results_url"]) == ("message_batch", "in_progress", None)
    assert job["request_counts"] == {"processing": 26, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    done = api.ended(job)
    assert done["request_counts"] == {"processing": 0, "succeeded": 26, "errored": 0, "canceled": 0, "expired": 0}
    rows = api.rows(done)
    assert openai_ids(rows) == openai_ids(lines)
    for line, row in zip(lines, rows):
        online = api.call("POST", "/v1/messages", line["params"])
        message = row["result"]["message"]
        assert message["content"] == online["content"] and message["model"] == line["params"]["model"]
        assert message["usage"]["output_tokens"] == online["usage"]["output_tokens"]
    lines_billed = ledger(p)
    assert billed(lines_billed) == {line["custom_id"]: 1 for line in lines}
    cost = {price: sum((x["input_tokens"] + x["output_tokens"]) * x["price"] for x in lines_billed
                       if x["price"] == price) for price in (0.5, 1)}
    assert cost[0.5] * 2 == cost[1] > 0


def test_anthropic_shows_no_progress_until_the_end(provider):
    api = Anthropic(provider(*QUICK, "--batch-fault", "stall=1"))
    job = api.create([api.line(i) for i in range(20)])
    wait_for("12 answers", lambda: sum(x.get("batch", {}).get("op") == "row" for x in api.provider.calls()) == 12)
    assert api.get(job)["request_counts"]["processing"] == 20
    assert api.send("GET", f"{api.root}/{job['id']}/results")[0] == 400
    api.call("POST", f"{api.root}/{job['id']}/cancel")
    done = api.ended(job)
    assert (done["request_counts"]["succeeded"], done["request_counts"]["canceled"]) == (12, 8)


def test_anthropic_looks_at_params_only_when_it_runs(provider):
    api = Anthropic(provider(*QUICK))
    lines = [api.line(0), {"custom_id": "no-max", "params": {"model": "m", "messages": api.line(1)["params"]["messages"]}},
             api.line(2, stream=True), api.line(3, fallbacks=[]), api.line(4, max_tokens=0)]
    done = api.ended(api.create(lines))
    rows = api.rows(done)
    assert types(rows) == ["succeeded"] + ["errored"] * 4
    for row in rows[1:]:
        wrapped = row["result"]["error"]
        assert wrapped["type"] == "error" and wrapped["error"]["type"] == "invalid_request_error"
    assert done["request_counts"]["errored"] == 4


@pytest.mark.parametrize("words, lines", [
    ("requests.1.custom_id", [{"custom_id": "a", "params": {}}, {"custom_id": "a b", "params": {}}]),
    ("requests.0.custom_id", [{"custom_id": "x" * 65, "params": {}}]),
    ("requests.0.custom_id", [{"params": {}}]),
    ("requests.0.params", [{"custom_id": "a"}]),
    ("requests.0.more", [{"custom_id": "a", "params": {}, "more": 1}]),
    ("requests.1", [{"custom_id": "a", "params": {}}, 7]),
    ("duplicate", [{"custom_id": "a", "params": {}}] * 2),
    ("at least 1", []),
    ("at most 4", [{"custom_id": str(i), "params": {}} for i in range(5)]),
])
def test_anthropic_refuses_a_bad_list_of_requests_at_once(provider, words, lines):
    api = Anthropic(provider(*QUICK, "--batch-rows", "4"))
    refused = api.create(lines, status=400)
    assert refused["type"] == "error" and refused["error"]["type"] == "invalid_request_error"
    assert words in refused["error"]["message"], refused
    assert api.call("GET", api.root)["data"] == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"requests":[{]}', b'{"requests":{}}', b'{"requests":[],"x":1}',
                                  b'{"requests":[1,]}', b'{"requests":[{"custom_id":"a"} {}]}'])
def test_anthropic_refuses_a_body_that_is_no_list(provider, body):
    api = Anthropic(provider(*QUICK))
    status, _, raw = api.send("POST", api.root, body)
    assert status == 400 and json.loads(raw)["error"]["type"] == "invalid_request_error"


def test_anthropic_edge_says_413_in_html(provider):
    api = Anthropic(provider(*QUICK, "--batch-bytes", "10kB"))
    status, headers, raw = api.send("POST", api.root, b'{"requests":[' + b" " * 20000 + b"]}")
    assert (status, headers["content-type"]) == (413, "text/html") and raw.startswith(b"<html>")


def test_anthropic_wants_its_headers(provider):
    api = Anthropic(provider(*QUICK, "--api-key", "k"))
    for name, status in (("x-api-key", 401), ("anthropic-version", 400)):
        api.headers = {k: v for k, v in Anthropic(api.provider).headers.items() if k != name}
        for method in ("GET", "POST"):
            body = json.dumps({"requests": [api.line(1)]}) if method == "POST" else b""
            assert api.send(method, api.root, body)[0] == status
    assert Anthropic(api.provider).call("GET", api.root)["data"] == []
    other = Anthropic(provider(*QUICK))
    job = other.create([other.line(1)])
    assert Anthropic(other.provider, "another").call("GET", f"{api.root}/{job['id']}", status=404)


def test_anthropic_lists_both_ways(provider):
    api = Anthropic(provider("--batch-time", "1h"))
    jobs = [api.create([api.line(i)])["id"] for i in range(5)][::-1]

    def page(query):
        seen = api.call("GET", f"{api.root}?{query}")
        ids = [job["id"] for job in seen["data"]]
        assert (seen["first_id"], seen["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
        return ids, seen["has_more"]

    assert page("limit=2") == (jobs[:2], True)
    assert page(f"limit=2&after_id={jobs[1]}") == (jobs[2:4], True)
    assert page(f"limit=2&after_id={jobs[3]}") == (jobs[4:], False)
    assert page(f"after_id={jobs[4]}") == ([], False)
    assert page(f"limit=2&before_id={jobs[4]}") == (jobs[2:4], True)
    assert page(f"before_id={jobs[1]}") == (jobs[:1], False)
    assert api.call("GET", f"{api.root}?limit=1001", status=400)


def test_anthropic_cancels_and_deletes(provider):
    api = Anthropic(provider(*QUICK, "--batch-fault", "stall=1"))
    job = api.create([api.line(i) for i in range(50)])
    assert api.call("DELETE", f"{api.root}/{job['id']}", status=409)["error"]["type"] == "conflict_error"
    wait_for("30 answers", lambda: sum(x.get("batch", {}).get("op") == "row" for x in api.provider.calls()) == 30)
    assert api.call("POST", f"{api.root}/{job['id']}/cancel")["processing_status"] == "canceling"
    done = api.ended(job)
    rows = api.rows(done)
    assert set(types(rows)) == {"succeeded", "canceled"} and len(rows) == 50
    assert done["request_counts"]["canceled"] == types(rows).count("canceled")
    assert done["cancel_initiated_at"] and done["ended_at"]
    gone = api.call("DELETE", f"{api.root}/{job['id']}")
    assert gone == {"id": job["id"], "type": "message_batch_deleted"}
    assert api.call("GET", f"{api.root}/{job['id']}", status=404)
    assert api.send("GET", f"{api.root}/{job['id']}/results")[0] == 404


def test_anthropic_archives_results(provider):
    api = Anthropic(provider(*QUICK, "--batch-keep", "1s"))
    done = api.ended(api.create([api.line(1)]))
    gone = wait_for("the archive", lambda: (seen := api.get(done))["archived_at"] and seen)
    assert gone["results_url"] is None
    assert api.send("GET", f"{api.root}/{done['id']}/results")[0] == 404


def test_anthropic_queue_has_an_end(provider):
    api = Anthropic(provider("--batch-time", "1h", "--batch-queued-rows", "10"))
    api.create([api.line(i) for i in range(6)])
    assert api.create([api.line(i) for i in range(6)], status=429)["error"]["type"] == "rate_limit_error"
    api.create([api.line(i) for i in range(4)])


# --- Azure OpenAI --------------------------------------------------------------------------------


@pytest.mark.parametrize("root, url", [("/openai/v1", "/chat/completions"), ("/openai", "/v1/chat/completions")])
def test_azure_differs_where_azure_does(provider, root, url):
    api = Azure(provider(*QUICK, "--batch-file-time", "100ms"))
    api.root, api.url = root, url
    data = b"".join(json.dumps(api.line(i)).encode() + b"\n" for i in range(20))
    file = json.loads(api.upload(data)[2])
    assert file["status"] == "pending"
    wait_for("the file", lambda: api.call("GET", f"{root}/files/{file['id']}")["status"] == "processed")
    job = api.call("POST", root + "/batches", api.request(file["id"]))
    assert job["status"] == "Validating" and isinstance(job["created_at"], str)
    assert job["request_counts"] == {"total": None, "completed": None, "failed": None}
    done = api.ended(job)
    assert done["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    assert isinstance(done["created_at"], int) and len(api.rows(done)) == 20
    assert done["error_file_id"] and api.content(done["error_file_id"]) == b""


def test_azure_blames_a_byte_order_mark_on_the_model(provider):
    api = Azure(provider(*QUICK))
    failed = api.ended(api.create(BOM + changed(api.line(1))), "failed")
    assert "deployment name" in failed["errors"]["data"][0]["message"]


def test_azure_takes_either_header_but_not_both(provider):
    api = Azure(provider("--batch-time", "1h", "--api-key", "k"))
    job = api.create([api.line(1)])
    assert job["status"] == "Validating"
    for headers in ({"Authorization": "Bearer wrong"}, {}, {"api-key": "k", "Authorization": "Bearer k"}):
        assert Api(api.provider, headers).send("GET", "/openai/v1/batches")[0] == 401
    assert Api(api.provider, {"Authorization": "Bearer k"}).send("GET", "/openai/v1/batches")[0] == 200


def test_azure_refuses_a_file_that_is_pending(provider):
    api = Azure(provider("--batch-file-time", "1h"))
    file = json.loads(api.upload(changed(api.line(1)))[2])
    assert api.call("POST", "/openai/v1/batches", api.request(file["id"]), status=400)


# --- Memory --------------------------------------------------------------------------------------


@pytest.mark.skipif(not (RELEASE_BIN / "headrace-provider").exists() or
                    b"__asan_init" in (RELEASE_BIN / "headrace-provider").read_bytes(), reason="no release build")
@pytest.mark.parametrize("kind", [OpenAI, Anthropic])
def test_memory_does_not_grow_with_a_job(box, kind):
    (box.path / "release").mkdir()
    release = Box(box.path / "release", RELEASE_BIN)
    api = kind(Simulator(release, *QUICK))
    lines = []
    for i in range(8000):
        line = api.line(i)
        messages = line.get("params", line.get("body"))["messages"]
        messages[0]["content"] += "x" * 5000
        lines.append(line)
    done = api.ended(api.create(lines))
    assert len(api.rows(done)) == len(lines)
    status = dict(line.split(":", 1) for line in
                  (pathlib.Path("/proc") / str(api.provider.pid) / "status").read_text().splitlines())
    release.end()
    assert int(status["VmHWM"].split()[0]) < 30_000  # kB; the input alone has 43 MB
