"""Clients of the provider simulator's batch APIs that speak each of them by hand."""
import http.client
import json

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


BOM = b"\xef\xbb\xbf"


def changed(line, **more):
    return json.dumps({**line, **more}).encode() + b"\n"


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
