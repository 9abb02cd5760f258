"""`headrace run` in mode batch, left and gone on with, and `headrace jobs`."""
import collections
import json

import pytest

from conftest import KEY, Box, Coordinator, Worker, make_models, read_jsonl, sentiments, wait_for, write_jsonl

N = 200
FAST = {"mode": "batch", "batch_job_poll": "100", "batch_job_timeout": "300"}


@pytest.fixture
def rows(box):
    return write_jsonl(box.path / "rows.jsonl", [{"id": str(i), "text": f"It is {'good' if i % 3 else 'bad'}, number {i}"}
                                                 for i in range(N)])


def run(box, *options):
    done = box.run("headrace", "run", *options, env={**box.env, "OPENAI_API_KEY": KEY})
    assert KEY not in done.stderr.decode()
    return done


def check_right(box, path):
    found = read_jsonl(path)
    assert [row["id"] for row in found] == [str(i) for i in range(N)]
    assert [row["sentiment"] for row in found] == sentiments(box, [row["text"] for row in found])


def jobs_made(simulator):
    return sum(1 for call in simulator.calls() if call["path"] == "/v1/batches" and call["status"] == 200)


def lines_billed(simulator):
    return sum(1 for call in simulator.calls() if call["path"] == "/v1/chat/completions")


def test_a_run_is_left_and_collected_later(box, provider, rows):
    p = provider("--batch-time", "2s")
    models, out = make_models(box, p.url, **FAST), box.path / "out.jsonl"
    begin = ["-f", models, "-m", "llm_sentiment", "-i", rows, "-o", out]
    done = run(box, *begin, "--detach")
    assert done.returncode == 0, done.stderr
    assert f"{N} rows are in 1 job at the provider" in done.stderr.decode()
    assert f"to go on: headrace run --resume --state {out}.state" in done.stderr.decode()
    assert read_jsonl(out) == []
    assert [pid for pid, _ in box.left_over()] == [p.pid]
    done = run(box, "--resume", "--state", f"{out}.state")
    assert done.returncode == 0, done.stderr
    check_right(box, out)
    assert jobs_made(p) == 1 and lines_billed(p) == N // 20


def test_the_same_command_goes_on_too(box, provider, rows):
    p = provider("--batch-time", "1s")
    models, out = make_models(box, p.url, **FAST), box.path / "out.jsonl"
    begin = ["-f", models, "-m", "llm_sentiment", "-i", rows, "-o", out]
    assert run(box, *begin, "--detach").returncode == 0
    assert run(box, *begin).returncode == 0
    check_right(box, out)
    assert jobs_made(p) == 1 and lines_billed(p) == N // 20


@pytest.mark.parametrize("more, why", [
    (("--detach", "-o", "out.jsonl", "--set", "mode=online"), "--detach: the mode of model 'llm_sentiment' is online"),
    (("-o", "-"), "--state: got nothing, want a folder to go on from"),
])
def test_a_run_of_jobs_that_could_not_go_on_is_refused(box, simulator, rows, more, why):
    done = run(box, "-f", make_models(box, simulator.url, **FAST), "-m", "llm_sentiment", "-i", rows, *more)
    assert done.returncode == 2 and why in done.stderr.decode()
    assert simulator.calls() == []


class Jobs:
    """A coordinator, and `headrace jobs` of it."""

    def __init__(self, box, redis, simulator, rows, name="coordinator", **model):
        self.box = box
        self.coordinator = Coordinator(box, redis, "--models", make_models(box, simulator.url, **{**FAST, **model}), name=name)
        done = box.run("headrace", "submit", "--coordinator", self.coordinator.address, "-m", "llm_sentiment", "-q", "-i", rows,
                       "--producer", "the-rows")
        assert done.returncode == 0, done.stderr

    def ask(self, *words, status=0):
        done = self.box.run("headrace", "jobs", *words, "--coordinator", self.coordinator.address)
        assert done.returncode == status, done.stderr
        return done.stdout.decode() + done.stderr.decode()

    def list(self):
        return json.loads(self.ask("--json"))["jobs"]

    def wait_state(self, *states):
        return wait_for(f"a job that is {states}", lambda: next((j for j in self.list() if j["state"] in states), None))

    def results(self):
        done = self.box.run("headrace", "collect", "--coordinator", self.coordinator.address, "--count", N, "-q")
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert sorted(int(row["id"]) for row in rows) == list(range(N))
        assert all(row["error"] is None for row in rows)


def test_jobs_are_listed_shown_and_cancelled(box, redis, provider, rows):
    p = provider("--batch-time", "60s")
    jobs = Jobs(box, redis, p, rows)
    Worker(box, jobs.coordinator)
    job = jobs.wait_state("running")
    assert job["lines"] == job["waiting"] > 0 and (job["model"], job["provider"]) == ("llm_sentiment", "openai")
    assert job["job"] in jobs.ask() and "running" in jobs.ask("list", "-m", "llm_sentiment")
    assert jobs.ask("list", "-m", "another").strip() == "no jobs"
    assert job["provider_id"] in jobs.ask("show", job["job"])
    status = json.loads(box.run("headrace", "status", "--coordinator", jobs.coordinator.address).stdout)
    assert (status["jobs_at_provider"], status["records_at_provider"]) == (1, N)
    assert status["waiting"] == f"1 job at the provider: 0 of {job['lines']} lines done"
    assert "no job is called" in jobs.ask("show", "hr1-nothing", status=2)
    assert "got no name" in jobs.ask("cancel", status=2)
    jobs.ask("cancel", job["job"])
    # What has no answer is asked again: in another job.
    ended = wait_for("the end of it", lambda: next((j for j in jobs.list() if j["job"] == job["job"] and
                                                    j["state"] == "closed"), None))
    assert ended["answered"] + ended["back"] == job["lines"] and ended["back"] > 0
    again = jobs.wait_state("running")
    assert again["job"] != job["job"] and again["lines"] == ended["back"]
    assert "has ended" in jobs.ask("cancel", job["job"], status=2)


def test_a_job_that_the_coordinator_does_not_know_is_adopted(box, redis, provider, rows):
    """All that was in Redis is lost. The records are submitted again, and the job at the provider answers them."""
    p = provider("--batch-time", "1s")
    same = {"batch_timeout_ms": "60000"}  # a line's name is of all its records: they are to be batched the same way
    lost = Jobs(box, redis, p, rows, **same)
    worker = Worker(box, lost.coordinator)
    job = lost.wait_state("running", "ended", "harvested", "closed")
    for child in (worker, lost.coordinator):
        child.kill()
    empty = type(redis)(Box(box.path / "empty", box.bin))
    box.children.append(empty)
    # With one job at once, and no worker before it is adopted, no other job is made meanwhile.
    found = Jobs(box, empty, p, rows, name="found", batch_job_concurrency="1", **same)
    assert "got no --model" in found.ask("adopt", job["provider_id"], status=2)
    assert "model 'nothing' does not exist" in found.ask("adopt", job["provider_id"], "-m", "nothing", status=2)
    found.ask("adopt", job["provider_id"], "-m", "llm_sentiment")
    assert "already" in found.ask("adopt", job["provider_id"], "-m", "llm_sentiment", status=2)
    Worker(box, found.coordinator, name="another")
    found.results()
    assert jobs_made(p) == 1 and lines_billed(p) == job["lines"]
    assert wait_for("both jobs closed", lambda: {j["state"] for j in found.list()} == {"closed"})


def test_sources_that_come_again_in_another_order_ask_for_nothing_again(box, redis, provider):
    """Half of the jobs are done when the coordinator is killed; then its sources begin anew, the second one first."""
    p = provider("--batch-time", "3s", "--batch-jitter", "90%")
    c = Coordinator(box, redis, "--models", make_models(box, p.url, **FAST, batch_job_rows="2", batch_size="10"))
    Worker(box, c)
    texts = {s: [{"id": f"{s}{i}", "text": f"It is {'good' if i % 3 else 'bad'}, {s} {i}"} for i in range(N)] for s in "ab"}
    files = {s: write_jsonl(box.path / f"{s}.jsonl", rows) for s, rows in texts.items()}
    half = write_jsonl(box.path / "half.jsonl", texts["b"][:N // 2])

    def submit(source, path):
        done = box.run("headrace", "submit", "--coordinator", c.address, "-m", "llm_sentiment", "-q", "-i", path, "--producer",
                       source)
        assert done.returncode == 0, done.stderr
    submit("a", files["a"])
    submit("b", half)
    wait_for("some jobs done", lambda: c.metrics()["headrace_job_lines_total{what=\"answered\"}"] >= 5)
    c.kill()
    c = c.again()
    submit("b", files["b"])
    submit("a", files["a"])
    done = box.run("headrace", "collect", "--coordinator", c.address, "--count", 2 * N, "-q")
    assert done.returncode == 0, done.stderr
    found = {row["id"]: row["sentiment"] for row in map(json.loads, done.stdout.splitlines())}
    rows = texts["a"] + texts["b"]
    assert found == dict(zip((row["id"] for row in rows), sentiments(box, [row["text"] for row in rows])))
    billed = collections.Counter(record for call in p.calls() if call["path"] == "/v1/chat/completions"
                                 for record in call["records"])
    assert set(billed.values()) == {1} and len(billed) == 2 * N
