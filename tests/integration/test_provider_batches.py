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
