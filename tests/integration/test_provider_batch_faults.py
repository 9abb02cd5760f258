"""The faults of the provider simulator's batch APIs, each on every API, and what the ledger says of them."""
import http.client
import json

import pytest

from batch_clients import Anthropic, Azure, Gemini, OpenAI, QUICK, billed, form, ledger, rows_of
from conftest import wait_for


class Line:
    """What one line became, whatever the API."""

    def __init__(self, api, row):
        if isinstance(api, Gemini):
            self.id, self.ok = row["key"], "response" in row
            self.why = None if self.ok else row["error"]["code"]
        elif isinstance(api, Anthropic):
            self.id, self.ok = row["custom_id"], row["result"]["type"] == "succeeded"
            self.why = (None if self.ok else row["result"]["error"]["error"]["type"]
                        if row["result"]["type"] == "errored" else row["result"]["type"])
        else:
            self.id, reply = row["custom_id"], row["response"]
            self.ok = reply is not None and reply["status_code"] == 200
            self.why = None if self.ok else reply["status_code"] if reply else row["error"]["code"]


ROWS = 100


class Moves:
    """The same few moves on every API."""

    def __init__(self, kind, provider, *options):
        self.provider = provider("--control", *QUICK, *options)
        self.api = kind(self.provider)
        self.gemini, self.anthropic = kind is Gemini, kind is Anthropic

    def lines(self, n=ROWS):
        if self.gemini:
            return [{"key": f"row-{i}", "request": self.api.request(i)} for i in range(n)]
        return [self.api.line(i) for i in range(n)]

    def post(self):
        """A create by hand: the answer as it comes."""
        if self.gemini:
            path = f"/v1beta/models/{self.api.model}:batchGenerateContent"
            body = {"batch": {"displayName": "d", "inputConfig": {"fileName": self.api.file(self.lines())}}}
        elif self.anthropic:
            path, body = self.api.root, {"requests": self.lines()}
        else:
            path, body = self.api.root + "/batches", self.api.request(self.api.file(self.lines()))
        return self.api.send("POST", path, json.dumps(body).encode())

    def listed(self):
        path = "/v1beta/batches" if self.gemini else self.api.root + ("" if self.anthropic else "/batches")
        answer = self.api.call("GET", path)
        return answer["operations" if self.gemini else "data"]

    def path_of(self, job):
        if self.gemini:
            return "/v1beta/" + job["name"]
        return f"{self.api.root}{'' if self.anthropic else '/batches'}/{job['id']}"

    def control(self, value, path="/control"):
        return self.api.call("POST", path, value)

    def jobs(self):
        return self.api.call("GET", "/control/batches")["jobs"]

    def raw(self, done):
        """All result bytes of a job that has ended."""
        if self.gemini:
            file = done["response"]["responsesFile"]
            return self.api.send("GET", f"/download/v1beta/{file}:download?alt=media")[2]
        if self.anthropic:
            return self.api.send("GET", f"{self.api.root}/{done['id']}/results")[2]
        return self.api.content(done["output_file_id"]) + self.api.content(done["error_file_id"])

    def run(self, state=None):
        """All lines of one job, in the order they came."""
        done = self.api.ended(self.api.create(self.lines()), *([state] if state and not self.anthropic else []))
        return done, [Line(self.api, row) for row in rows_of(self.raw(done))]


@pytest.fixture(params=[OpenAI, Azure, Anthropic, Gemini], ids=lambda kind: kind.__name__)
def tester(request, provider):
    return lambda *options: Moves(request.param, provider, *options)


def everybody():
    return [f"row-{i}" for i in range(ROWS)]


def test_a_job_that_expires_keeps_what_it_has(tester):
    t = tester("--batch-fault", "expire=1")
    if t.gemini:
        done = t.api.ended(t.api.create(t.lines()), "EXPIRED")
        assert "response" not in done
        assert len(billed(ledger(t.provider))) == ROWS * 0.6
        return
    _, lines = t.run("expired")
    assert sum(line.ok for line in lines) == ROWS * 0.6
    assert sorted(line.id for line in lines) == sorted(everybody())
    assert {line.why for line in lines if not line.ok} == {"expired" if t.anthropic else "batch_expired"}
    assert set(billed(ledger(t.provider))) == {line.id for line in lines if line.ok}


def test_where_a_job_stops_is_an_option(tester):
    t = tester("--batch-fault", "cancelled=1", "--batch-stop-at", "25%")
    t.api.ended(t.api.create(t.lines()), "ended" if t.anthropic else "CANCELLED" if t.gemini else "cancelled")
    (job,) = t.jobs()
    assert (job["state"], job["succeeded"], job["cancelled"]) == ("cancelled", 25, 75)


def test_a_create_that_loses_its_reply_makes_the_job(tester):
    for fault in ("create-lost", "create-500-made", "create-html-made"):
        t = tester("--batch-fault", fault + "=1*1")
        answer = t.post()
        assert answer is None if fault == "create-lost" else answer[0] in (500, 502)
        (job,) = t.listed()  # it is found, and its answers are right
        lines = [Line(t.api, row) for row in rows_of(t.raw(t.api.ended(job)))]
        assert [line.id for line in lines] == everybody() and all(line.ok for line in lines)
        assert t.post()[0] == 200


def test_a_create_that_fails_makes_no_job(tester):
    t = tester("--batch-fault", "create-429=1*1")
    status, headers, _ = t.post()
    assert status == 429 and (t.gemini or int(headers["retry-after"]) >= 1)
    t.control({"batch-fault": {"create-500": "1*1"}})
    assert t.post()[0] == 500
    t.control({"batch-fault": {"create-html": "1*1"}})
    status, headers, raw = t.post()
    assert (status, headers["content-type"]) == (502, "text/html") and b"<html>" in raw
    assert t.listed() == []
    assert t.post()[0] == 200 and len(t.listed()) == 1


def test_a_full_queue(tester):
    t = tester("--batch-fault", "queue-full=1*1")
    if t.gemini or t.anthropic:
        assert t.post()[0] == 429 and t.listed() == []
    else:
        failed = t.api.ended(t.api.create(t.lines()), "failed")
        (error,) = failed["errors"]["data"]
        assert error["code"] == "token_limit_exceeded" and error["line"] is None
    _, lines = t.run()
    assert all(line.ok for line in lines)


def test_a_job_that_fails_validation_names_the_line(tester):
    t = tester("--batch-fault", "fail-line=1", "--batch-fail-line", "7")
    if t.anthropic:
        assert t.post()[0] == 400 and t.listed() == []
    elif t.gemini:
        assert t.api.ended(t.api.create(t.lines()), "FAILED")["error"]["code"] == 3
    else:
        assert t.api.ended(t.api.create(t.lines()), "failed")["errors"]["data"][0]["line"] == 7
    assert billed(ledger(t.provider)) == {}


@pytest.mark.parametrize("fault", ["vanish", "vanish-ended"])
def test_a_job_can_vanish(tester, fault):
    t = tester("--batch-fault", fault + "=1")
    job = t.api.create(t.lines())
    wait_for("its end", lambda: t.api.send("GET", t.path_of(job))[0] == 404)
    assert t.listed() == [] and t.jobs() == []
    assert len(billed(ledger(t.provider))) == (ROWS if fault == "vanish-ended" else 60)


def test_a_job_can_end_without_files(tester):
    t = tester("--batch-fault", "no-files=1")
    done = t.api.ended(t.api.create(t.lines()))
    if t.anthropic:
        assert done["results_url"] is None
    elif t.gemini:
        assert "response" not in done and "output" not in done["metadata"]
    else:
        assert (done["output_file_id"], done["error_file_id"]) == (None, None)
    assert billed(ledger(t.provider)) == {}


def test_results_come_in_another_order(tester):
    t = tester("--batch-fault", "shuffle=1")
    _, lines = t.run()
    assert [line.id for line in lines] != everybody()
    assert sorted(line.id for line in lines) == sorted(everybody()) and all(line.ok for line in lines)


def test_rows_are_missing_twice_strange_failed_and_late(tester):
    t = tester("--batch-fault", "row-missing=20%", "--batch-fault", "row-twice=20%", "--batch-fault", "row-error=20%",
               "--batch-fault", "row-strange=20%", "--batch-fault", "row-timeout=20%")
    _, lines = t.run()
    seen = [line.id for line in lines]
    assert "nobody-asked-for-this" in seen and any(seen.count(id) == 2 for id in everybody())
    missing = set(everybody()) - set(seen)
    assert missing
    assert {line.why for line in lines} == (
        {None, "api_error", "timeout_error"} if t.anthropic else {None, 4, 13} if t.gemini
        else {None, 500, "request_timeout"})
    counts = billed(ledger(t.provider))
    assert set(counts.values()) == {1} and not missing & set(counts)
    assert set(counts) == {line.id for line in lines if line.ok} - {"nobody-asked-for-this"}


def test_a_row_can_be_broken(tester):
    t = tester("--batch-fault", "row-broken=1*1")
    done = t.api.ended(t.api.create(t.lines()))
    raw = t.raw(done).split(b"\n")[:-1]
    assert len(raw) == ROWS
    with pytest.raises(json.JSONDecodeError):
        json.loads(raw[0])
    assert [Line(t.api, json.loads(line)).ok for line in raw[1:]] == [True] * (ROWS - 1)


def test_faults_of_answers_strike_lines_as_they_strike_requests(tester):
    t = tester("--fault", "500=10%", "--fault", "429=10%", "--fault", "hang=10%", "--fault", "html=10%",
               "--fault", "cut=10%", "--fault", "empty=10%")
    _, lines = t.run()
    assert sorted(line.id for line in lines) == sorted(everybody())
    assert len({line.why for line in lines}) >= 3
    faults = {x["fault"] for x in ledger(t.provider) if x.get("batch", {}).get("op") == "row"}
    assert faults == {None, "500", "429", "hang", "html", "cut", "empty"}


def test_polls_fail_and_go_on(tester):
    t = tester("--batch-fault", "stall=1")
    job = t.api.create(t.lines())
    for fault, want in (("poll-500", 500), ("poll-429", 429), ("poll-html", 502), ("poll-reset", None)):
        t.control({"batch-fault": {fault: "1*1"}})
        answer = t.api.send("GET", t.path_of(job))
        assert (answer and answer[0]) == want
        assert t.api.send("GET", t.path_of(job))[0] == 200
        t.control({"batch-fault": {fault: 1}})
        with pytest.raises(AssertionError):
            t.listed()
        t.control({"batch-fault": {fault: 0}})


def test_a_download_is_cut_in_the_middle(tester):
    t = tester("--batch-fault", "download-cut=1*1")
    done = t.api.ended(t.api.create(t.lines()))
    half, whole = t.raw(done), t.raw(done)
    assert whole.startswith(half[:len(half)]) and len(half) == len(whole) // 2
    calls = [x for x in ledger(t.provider) if x.get("batch", {}).get("op") == "download"]
    sent = [x["sent"] for x in calls if x["of"] > 0]
    assert sent[0] == len(half) and sent[1] == len(whole) and calls[-1]["complete"]
    ends = [x["batch"]["file_end"] for x in t.provider.calls() if x.get("batch", {}).get("op") == "row"]
    assert max(ends) == len(whole) and sum(end <= len(half) for end in ends) < ROWS


def test_downloads_fail(tester):
    t = tester()
    done = t.api.ended(t.api.create(t.lines()))
    for fault, words in (("download-500", b"error"), ("download-html", b"<html>")):
        t.control({"batch-fault": {fault: "1*1"}})
        assert words in t.raw(done)
    assert len(rows_of(t.raw(done))) == ROWS


def test_uploads_fail_or_lose_their_reply(tester):
    t = tester("--batch-fault", "upload-lost=1*1")
    if t.anthropic:
        return  # it has none
    files = "/v1beta/files" if t.gemini else t.api.root + "/files"
    with pytest.raises((TypeError, AssertionError)):  # there is no answer to look at
        t.api.file(t.lines())
    assert len(t.api.call("GET", files)["files" if t.gemini else "data"]) == 1
    for fault in ("upload-500", "upload-429", "upload-html"):
        t.control({"batch-fault": {fault: "1*1"}})
        with pytest.raises((AssertionError, KeyError)):
            t.api.file(t.lines())
    assert len(t.api.call("GET", files)["files" if t.gemini else "data"]) == 1


def test_cancels_and_removals_fail_or_lose_their_reply(tester):
    t = tester("--batch-fault", "stall=1", "--batch-fault", "cancel-500=1*1")
    job = t.api.create(t.lines())
    path = t.path_of(job) + (":cancel" if t.gemini else "/cancel")
    assert t.api.send("POST", path, b"{}")[0] == 500
    t.control({"batch-fault": {"cancel-lost": "1*1", "remove-500": "1*1"}})
    assert t.api.send("POST", path, b"{}") is None
    wait_for("the end", lambda: t.jobs()[0]["state"] == "cancelled")
    gone = t.path_of(job) if t.gemini or t.anthropic else f"{t.api.root}/files/{job['input_file_id']}"
    assert [t.api.send("DELETE", gone)[0] for _ in range(3)] == [500, 200, 404]


def test_a_job_can_be_pushed_by_control(tester):
    t = tester("--batch-time", "1h")
    jobs = [t.api.create(t.lines(5)) for _ in range(3)]
    name = "name" if t.gemini else "id"
    t.control({"job": jobs[0][name], "do": "finish"}, "/control/batches")
    t.control({"job": jobs[1][name], "do": "expire"}, "/control/batches")
    t.control({"job": jobs[2][name], "do": "delete"}, "/control/batches")
    wait_for("their ends", lambda: [job["state"] for job in t.jobs()] == ["completed", "expired"])
    assert t.api.send("GET", t.path_of(jobs[2]))[0] == 404
    assert t.api.send("POST", "/control/batches", b'{"job":"all","do":"nothing"}')[0] == 400
    assert t.api.send("POST", "/control/batches", b'{"job":"none","do":"finish"}')[0] == 400


def test_a_client_that_leaves_in_an_upload_leaves_nothing(tester):
    t = tester()
    connection = http.client.HTTPConnection("127.0.0.1", t.provider.port, timeout=30)
    path = {OpenAI: "/v1/files", Azure: "/openai/v1/files", Anthropic: Anthropic.root}.get(type(t.api))
    if t.gemini:
        _, headers, _ = t.api.start(1000)
        path = "/" + headers["x-goog-upload-url"].split("/", 3)[3]
    connection.putrequest("POST", path)
    for name, value in {**t.api.headers, "Content-Length": "1000", "X-Goog-Upload-Command": "upload, finalize",
                        "X-Goog-Upload-Offset": "0", "Content-Type": form([])[1]["Content-Type"]}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(b"--xXx\r\n" if not t.anthropic else b'{"requests":[')
    connection.close()
    wait_for("its line", lambda: any(x["path"] == path.split("?")[0] and x["status"] == 0 for x in t.provider.calls()))
    assert t.listed() == []
    assert all(line.ok for line in t.run()[1])
