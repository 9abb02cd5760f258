"""Jobs at the batch APIs, through the front door: `headrace run` and a coordinator with workers, the provider
simulator with its faults. What is counted is rows, and what its ledger bills."""
import collections

import pytest

from conftest import KEY, Coordinator, Worker, read_jsonl, tags, wait_for, write_jsonl

PLACES = {"openai": "/v1", "azure-openai": "/openai/v1", "anthropic": "/v1", "gemini": "/v1beta"}
MODEL = """CREATE MODEL tag INPUT (text STRING) OUTPUT (tag STRING)
WITH ('provider' = '%s', 'endpoint' = 'http://127.0.0.1:%d%s', 'model' = '%s', 'api_key' = '${OPENAI_API_KEY}',
      'batch.size' = '%d', 'batch.timeout.ms' = '200', 'mode' = 'batch', 'structured.output' = 'required',
      'max.tokens' = '1024', 'batch.job.poll' = '100', 'batch.job.timeout' = '500', 'request.timeout.ms' = '2000'%s);"""
NAMES = {"openai": "gpt-5.4-mini", "azure-openai": "gpt-5.4-mini", "anthropic": "claude-haiku-4-5",
         "gemini": "gemini-2.5-flash"}
QUICK = ("--batch-time", "200ms", "--batch-fault", "shuffle=100%")
N = 120


def make_model(box, simulator, provider, size, more=""):
    path = box.path / "tag.sql"
    path.write_text(MODEL % (provider, simulator.port, PLACES[provider], NAMES[provider], size, more))
    return path


def texts(n=N):
    return [f"record {i} of the batch" for i in range(n)]


def make_input(box, n=N):
    return write_jsonl(box.path / "in.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(texts(n))])


def run(box, model, n=N, **env):
    """headrace run over n records; returns its rows by id."""
    done = box.run("headrace", "run", "-f", model, "-m", "tag", "-i", make_input(box, n), "-o", box.path / "out.jsonl",
                   "--state", box.path / "state", "--quiet", env={**box.env, "OPENAI_API_KEY": KEY, **env})
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return read_jsonl(box.path / "out.jsonl")


def check_rows(box, rows, n=N):
    """Each record once, with its own answer."""
    assert sorted(row["id"] for row in rows) == sorted(str(i) for i in range(n))
    want = tags(box, texts(n))
    wrong = [row for row in rows if row["tag"] != want[int(row["id"])] or row["error"] is not None]
    assert wrong == []


class Bill:
    """What the simulator's ledger says."""

    def __init__(self, simulator):
        lines = simulator.calls()
        ops = [line.get("batch", {}).get("op", "call") for line in lines]
        self.ops = collections.Counter(ops)
        self.calls = [line for line, op in zip(lines, ops) if op == "call" and line["input_tokens"] > 0]
        self.rows = [line for line, op in zip(lines, ops) if op == "row" and line["input_tokens"] > 0]
        self.lines = collections.Counter(line["batch"]["custom_id"] for line in self.rows)
        self.records = collections.Counter(record for line in self.rows for record in line["records"])


@pytest.mark.parametrize("size", [1, 20])
@pytest.mark.parametrize("provider_name", list(PLACES))
def test_a_run_goes_through_jobs(box, provider, provider_name, size):
    simulator = provider(*QUICK)
    check_rows(box, run(box, make_model(box, simulator, provider_name, size)))
    bill = Bill(simulator)
    assert bill.calls == [] and set(bill.lines.values()) == {1} and len(bill.lines) == N // size
    assert {row["price"] for row in bill.rows} == {0.5}
    assert set(bill.records.values()) == {1} and len(bill.records) == N


# fault, and how often a line, or a record, may have been billed
FAULTS = [
    ("upload-lost=100%*1", 1), ("upload-html=100%*1", 1), ("create-lost=100%*1", 1), ("create-500-made=100%*1", 1),
    ("create-html-made=100%*1", 1), ("create-429=100%*2", 1), ("queue-full=100%*1", 1), ("expire=100%*1", 1),
    ("cancelled=100%*1", 1), ("vanish=100%*1", 2), ("vanish-ended=100%*1", 2), ("fail-line=100%*1", 1),
    ("row-missing=5%", 1), ("row-twice=20%", 1), ("row-error=5%", 1), ("row-timeout=5%", 1), ("row-strange=10%", 1),
    ("row-broken=5%", 9), ("download-cut=100%*2", 1), ("download-html=100%*1", 1), ("poll-html=30%", 1),
    ("poll-reset=30%", 1), ("remove-500=100%*2", 1),
]
NOT_OF = {("anthropic", "fail-line=100%*1"), ("anthropic", "upload-lost=100%*1"), ("anthropic", "upload-html=100%*1"),
          ("gemini", "upload-lost=100%*1"), ("gemini", "upload-html=100%*1")}
CASES = [("openai", *case) for case in FAULTS] + [
    (name, *case) for name in ("azure-openai", "anthropic", "gemini") for case in FAULTS
    if (name, case[0]) not in NOT_OF and case[0].split("=")[0] in
    ("create-lost", "create-html-made", "queue-full", "expire", "vanish-ended", "fail-line", "row-broken", "download-cut")]


@pytest.mark.parametrize("provider_name,fault,most", CASES)
def test_what_goes_wrong_at_the_provider(box, provider, provider_name, fault, most):
    """All rows are right all the same, and nothing is paid for again that had an answer."""
    simulator = provider("--batch-time", "200ms", "--batch-fault", fault)
    check_rows(box, run(box, make_model(box, simulator, provider_name, 5)))
    bill = Bill(simulator)
    assert bill.calls == []
    if provider_name == "gemini" and fault.startswith("expire"):
        most = 2  # of a job that has expired it gives nothing
    assert max(bill.lines.values()) <= most, bill.lines
    if fault.startswith(("create", "upload")):
        assert bill.ops["create"] == (3 if "429" in fault else 1), bill.ops


POINTS = ["job_upload:1", "job_upload:2", "job_create:1", "job_create:2", "job_poll:1", "job_poll:2",
          "job_collect:1", "job_collect:2", "job_delete:1", "job_delete:2"]


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_dies_at_each_step(box, redis, provider, point):
    """Another worker takes the step again: one job, and every line billed once."""
    simulator = provider(*QUICK)
    coordinator = Coordinator(box, redis, "--models", make_model(box, simulator, "openai", 5), "--model", "tag",
                              "--heartbeat", "500ms")
    out = box.start("collect", box.bin / "headrace", "collect", "-c", coordinator.address, "-o", box.path / "out.jsonl",
                    "--count", str(N))
    first = Worker(box, coordinator, name="first", env={"HEADRACE_TEST_DIE_AT": point})
    done = box.run("headrace", "submit", "-c", coordinator.address, "-m", "tag", "-i", make_input(box))
    assert done.returncode == 0, done.stderr.decode()
    wait_for(f"the worker's end at {point}", lambda: not first.is_running())
    Worker(box, coordinator, name="second")
    assert out.wait(90) == 0
    check_rows(box, read_jsonl(box.path / "out.jsonl"))
    bill = Bill(simulator)
    assert bill.calls == [] and set(bill.lines.values()) == {1} and bill.ops["create"] == 1, bill.ops


def test_lines_that_cannot_be_written_go_back_at_once(box, redis, provider):
    """Prompts that are too long for the worker are halved, while the rest of their job goes its way."""
    simulator = provider(*QUICK)
    given = [{"id": str(i), "text": ("long " * 200 if i % 10 == 3 else "") + text} for i, text in enumerate(texts(60))]
    coordinator = Coordinator(box, redis, "--models", make_model(box, simulator, "openai", 20), "--model", "tag")
    out = box.start("collect", box.bin / "headrace", "collect", "-c", coordinator.address, "-o", box.path / "out.jsonl",
                    "--count", "60")
    Worker(box, coordinator, "--max-prompt-bytes", "2500")
    done = box.run("headrace", "submit", "-c", coordinator.address, "-m", "tag", "-i",
                   write_jsonl(box.path / "in.jsonl", given))
    assert done.returncode == 0, done.stderr.decode()
    assert out.wait(90) == 0
    rows = {row["id"]: row for row in read_jsonl(box.path / "out.jsonl")}
    want = tags(box, [row["text"] for row in given])
    assert [rows[str(i)]["tag"] for i in range(60)] == want
    bill = Bill(simulator)
    assert bill.calls == [] and set(bill.records.values()) == {1} and len(bill.records) == 60
    assert coordinator.metrics()['headrace_job_lines_total{what="missing"}'] == 0


VECTORS = """CREATE MODEL v INPUT (text STRING) OUTPUT (vector ARRAY<FLOAT>)
WITH ('provider' = '%s', 'endpoint' = 'http://127.0.0.1:%d%s', 'model' = '%s', 'api_key' = '${OPENAI_API_KEY}',
      'task' = 'embedding', 'batch.size' = '%d', 'batch.timeout.ms' = '200', 'mode' = '%s', 'batch.job.poll' = '100',
      'batch.job.timeout' = '500');"""


@pytest.mark.parametrize("provider_name,name,size", [("openai", "text-embedding-3-small", 8),
                                                     ("gemini", "gemini-embedding-001", 1),
                                                     ("gemini", "gemini-embedding-001", 4)])
def test_vectors_are_those_of_calls(box, provider, provider_name, name, size):
    simulator = provider(*QUICK)
    rows = {}
    for mode in ("online", "batch"):
        model = box.path / f"{mode}.sql"
        model.write_text(VECTORS % (provider_name, simulator.port, PLACES[provider_name], name, size, mode))
        done = box.run("headrace", "run", "-f", model, "-m", "v", "-i", make_input(box, 24), "-o",
                       box.path / f"{mode}.jsonl", "--state", box.path / mode, "--quiet",
                       env={**box.env, "OPENAI_API_KEY": KEY})
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        rows[mode] = {row["id"]: row["vector"] for row in read_jsonl(box.path / f"{mode}.jsonl")}
    assert len(rows["batch"]) == 24 and all(rows["batch"].values())
    assert rows["batch"] == rows["online"]
