"""The provider simulator's batch APIs, spoken by hand: states, files, faults, limits, and the ledger."""
import http.client
import itertools
import json

import pytest

from conftest import wait_for

ASK = 'Return JSON array: [{"index": <n>, "sentiment": "<positive|negative|neutral>"}]\n\n'
WORDS = ["Great case.", "Awful sound.", "A phone.", "I love it", "Worst purchase ever"]
QUICK = ("--batch-time", "200ms")


def prompt(row, n=2):
    """A prompt of n records, other ones for each row."""
    return ASK + "\n".join(json.dumps({"index": i + 1, "text": f"{WORDS[(row + i) % 5]} {row}"}) for i in range(n))


class Api:
    """One key's view of the simulator."""

    def __init__(self, provider, headers):
        self.provider, self.headers = provider, headers

    def send(self, method, path, body=b"", headers=None):
        """Status, headers in lower case, and body; None when the connection broke."""
        connection = http.client.HTTPConnection("127.0.0.1", self.provider.port, timeout=30)
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            reply = connection.getresponse()
            head = {name.lower(): value for name, value in reply.getheaders()}
            try:
                return reply.status, head, reply.read()
            except http.client.IncompleteRead as cut:
                return reply.status, head, cut.partial
        except (ConnectionError, http.client.BadStatusLine):
            return None
        finally:
            connection.close()

    def call(self, method, path, value=None, status=200):
        body = b"" if value is None else json.dumps(value).encode()
        answer = self.send(method, path, body, {"Content-Type": "application/json"})
        assert answer is not None and answer[0] == status, answer
        return json.loads(answer[2])


def rows_of(raw):
    return [json.loads(line) for line in raw.split(b"\n") if line]


def ledger(provider):
    provider.stop()
    return [json.loads(line) for line in provider.ledger.read_text().splitlines()]


def billed(lines):
    """What each line of a job was billed: custom_id to how many times."""
    count = {}
    for line in lines:
        if line.get("batch", {}).get("op") == "row" and line["input_tokens"] > 0:
            count[line["batch"]["custom_id"]] = count.get(line["batch"]["custom_id"], 0) + 1
    return count


# --- OpenAI --------------------------------------------------------------------------------------


def form(parts, boundary="xXx"):
    """multipart/form-data of (name, filename or None, bytes)."""
    body = b""
    for name, filename, value in parts:
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        body += f'; filename="{filename}"\r\nContent-Type: application/jsonl'.encode() if filename else b""
        body += b"\r\n\r\n" + value + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


class OpenAI(Api):
    root = "/v1"
    url = "/v1/chat/completions"

    def __init__(self, provider, key="k"):
        super().__init__(provider, {"Authorization": "Bearer " + key})

    def line(self, row, n=2, **more):
        return {"custom_id": f"row-{row}", "method": "POST", "url": self.url,
                "body": {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": prompt(row, n)}]}, **more}

    def upload(self, data, name="in.jsonl", purpose=b"batch", more=()):
        body, headers = form([("purpose", None, purpose), *more, ("file", name, data)])
        return self.send("POST", self.root + "/files", body, headers)

    def file(self, lines):
        data = lines if isinstance(lines, bytes) else b"".join(json.dumps(x).encode() + b"\n" for x in lines)
        status, _, raw = self.upload(data)
        assert status == 200, raw
        made = json.loads(raw)
        assert (made["object"], made["bytes"], made["purpose"]) == ("file", len(data), "batch")
        wait_for("the file", lambda: self.call("GET", f"{self.root}/files/{made['id']}")["status"] == "processed")
        return made["id"]

    def request(self, file, **more):
        return {"input_file_id": file, "endpoint": self.url, "completion_window": "24h", **more}

    def create(self, lines, **more):
        return self.call("POST", self.root + "/batches", self.request(self.file(lines), **more))

    def get(self, job):
        return self.call("GET", f"{self.root}/batches/{job['id']}")

    def ended(self, job, state="completed"):
        def look():
            seen = self.get(job)
            return seen if seen["status"] in ("completed", "failed", "expired", "cancelled") else None
        seen = wait_for("the job's end", look)
        assert seen["status"] == state, seen
        return seen

    def content(self, file):
        return self.send("GET", f"{self.root}/files/{file}/content")[2] if file else b""

    def rows(self, job):
        return rows_of(self.content(job["output_file_id"]))

    def failed_rows(self, job):
        return rows_of(self.content(job["error_file_id"]))


def openai_ids(rows):
    return [row["custom_id"] for row in rows]


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


BOM = b"\xef\xbb\xbf"


def changed(line, **more):
    return json.dumps({**line, **more}).encode() + b"\n"


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
    api = OpenAI(provider("--batch-time", "2s"))
    job = api.create([api.line(i) for i in range(100)])
    wait_for("an answer", lambda: api.get(job)["request_counts"]["completed"] > 0)
    assert api.call("POST", f"/v1/batches/{job['id']}/cancel")["status"] == "cancelling"
    done = api.ended(job, "cancelled")
    rows, failed = api.rows(done), api.failed_rows(done)
    assert 0 < len(rows) < 100 and len(rows) + len(failed) == 100
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
    api = OpenAI(provider(*QUICK, "--batch-keep", "1s"))
    done = api.ended(api.create([api.line(1)]))
    file = f"/v1/files/{done['output_file_id']}/content"
    wait_for("the end of the file", lambda: api.send("GET", file)[0] == 404)


# --- Anthropic -----------------------------------------------------------------------------------


class Anthropic(Api):
    root = "/v1/messages/batches"

    def __init__(self, provider, key="k"):
        super().__init__(provider, {"x-api-key": key, "anthropic-version": "2023-06-01",
                                    "Content-Type": "application/json"})

    def line(self, row, n=2, **more):
        return {"custom_id": f"row-{row}", "params": {
            "model": "claude-haiku-4-5", "max_tokens": 4000,
            "messages": [{"role": "user", "content": prompt(row, n)}], **more}}

    def create(self, lines, status=200):
        return self.call("POST", self.root, {"requests": lines}, status)

    def get(self, job):
        return self.call("GET", f"{self.root}/{job['id']}")

    def ended(self, job, state="ended"):
        def look():
            seen = self.get(job)
            return seen if seen["processing_status"] == state else None
        return wait_for("the job's end", look)

    def rows(self, job):
        path = job["results_url"].split("/", 3)[3]
        return rows_of(self.send("GET", "/" + path)[2])


def types(rows):
    return [row["result"]["type"] for row in rows]


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
    api = Anthropic(provider("--batch-time", "2s"))
    job = api.create([api.line(i) for i in range(50)])
    assert api.call("DELETE", f"{api.root}/{job['id']}", status=409)["error"]["type"] == "conflict_error"
    wait_for("an answer", lambda: any("row" in str(x.get("batch")) for x in api.provider.calls()))
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


class Azure(OpenAI):
    root = "/openai/v1"

    def __init__(self, provider, key="k"):
        Api.__init__(self, provider, {"api-key": key})

    def ended(self, job, state="completed"):
        def look():
            seen = self.get(job)
            return seen if seen["status"].lower() in ("completed", "failed", "expired", "cancelled") else None
        seen = wait_for("the job's end", look)
        assert seen["status"].lower() == state, seen
        return seen


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


def test_azure_does_not_expire_and_wants_its_own_key(provider):
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


# --- Gemini --------------------------------------------------------------------------------------


class Gemini(Api):
    model = "gemini-2.5-flash"

    def __init__(self, provider, key="k"):
        super().__init__(provider, {"x-goog-api-key": key})

    def request(self, row, n=2):
        return {"contents": [{"role": "user", "parts": [{"text": prompt(row, n)}]}],
                "generationConfig": {"responseMimeType": "application/json"}}

    def start(self, size, name="in.jsonl", **headers):
        return self.send("POST", "/upload/v1beta/files", json.dumps({"file": {"displayName": name}}), {
            "X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start",
            "X-Goog-Upload-Header-Content-Length": str(size),
            "X-Goog-Upload-Header-Content-Type": "application/jsonl", **headers})

    def upload(self, data):
        status, headers, _ = self.start(len(data))
        assert (status, headers["x-goog-upload-status"]) == (200, "active")
        path = "/" + headers["x-goog-upload-url"].split("/", 3)[3]
        status, headers, raw = Api(self.provider, {}).send("POST", path, data, {
            "X-Goog-Upload-Offset": "0", "X-Goog-Upload-Command": "upload, finalize"})
        assert (status, headers["x-goog-upload-status"]) == (200, "final"), raw
        return json.loads(raw)["file"]

    def file(self, lines):
        data = b"".join(json.dumps(x).encode() + b"\n" for x in lines)
        made = self.upload(data)
        assert made["sizeBytes"] == str(len(data)) and made["uri"].endswith("/v1beta/" + made["name"])
        wait_for("the file", lambda: self.call("GET", "/v1beta/" + made["name"])["state"] == "ACTIVE")
        return made["name"]

    def post(self, config, status=200, method="batchGenerateContent", name="job-a1"):
        return self.call("POST", f"/v1beta/models/{self.model}:{method}",
                         {"batch": {"displayName": name, "inputConfig": config}}, status)

    def create(self, lines, **more):
        return self.post({"fileName": self.file(lines)}, **more)

    def create_inline(self, lines, **more):
        return self.post({"requests": {"requests": lines}}, **more)

    def get(self, job):
        return self.call("GET", "/v1beta/" + job["name"])

    def ended(self, job, state="SUCCEEDED"):
        seen = wait_for("the job's end", lambda: (seen := self.get(job)).get("done") and seen)
        assert seen["metadata"]["state"].endswith("_STATE_" + state), seen
        return seen

    def rows(self, job):
        assert job["response"] == job["metadata"]["output"]
        file = job["response"]["responsesFile"]
        return rows_of(self.send("GET", f"/download/v1beta/{file}:download?alt=media")[2])


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
