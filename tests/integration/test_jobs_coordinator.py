"""Jobs at a provider's batch API while the coordinator is killed: whatever step it has just ordered, whatever write
it has just made, there is one job, and each line is paid for once."""
from collections import Counter

import pytest
from conftest import Coordinator, Simulator, Worker, read_jsonl, tags, wait_for, write_jsonl

MODEL = """CREATE MODEL tag INPUT (text STRING) OUTPUT (tag STRING)
WITH ('provider' = 'openai', 'endpoint' = 'http://127.0.0.1:%d/v1', 'model' = 'a-model', 'api_key' = '${OPENAI_API_KEY}',
      'mode' = 'batch', 'structured.output' = 'required', 'batch.job.poll' = '100', 'request.timeout.ms' = '3000');"""


def rows_of(n):
    return [{"id": str(i), "text": f"review number {i}"} for i in range(n)]


def times_paid(simulator):
    """How often each line was paid for: {name: times}."""
    return Counter(row["batch"]["custom_id"] for row in simulator.calls()
                   if row.get("batch", {}).get("op") == "row" and row["input_tokens"] > 0)


def check(box, results, rows):
    """Each record has its own answer."""
    assert len(results) == len(rows)
    want = tags(box, [row["text"] for row in rows])
    wrong = [results[row["id"]] for row, tag in zip(rows, want) if results[row["id"]]["tag"] != tag]
    assert wrong == []


def start(box, redis):
    simulator = Simulator(box, "--batch-time", "200ms")
    (box.path / "tag.sql").write_text(MODEL % simulator.port)
    coordinator = Coordinator(box, redis, "--models", box.path / "tag.sql", "--model", "tag", "--heartbeat", "300ms",
                              "--grace", "500ms")
    return simulator, coordinator


def finish(box, coordinator, simulator, collector, rows):
    assert collector.wait() == 0, collector.log
    results = {row["id"]: row for row in read_jsonl(box.path / "collector.out")}
    check(box, results, rows)
    wait_for("the job's end", lambda: coordinator.metrics()["headrace_queued_records"] == 0)
    paid = times_paid(simulator)
    assert len(paid) == len(rows) and max(paid.values()) == 1, paid.most_common(3)
    made = [row for row in simulator.calls() if row.get("batch", {}).get("op") == "create" and row["status"] == 200]
    assert len(made) == 1


def submit(box, coordinator, rows):
    collector = box.start("collector", box.bin / "headrace", "collect", "-c", coordinator.address, "-o",
                          "collector.out", "--consumer", "collector", "--quiet", "--count", str(len(rows)))
    box.start("submit", box.bin / "headrace", "submit", "-c", coordinator.address, "-m", "tag", "-i",
              write_jsonl(box.path / "rows.jsonl", rows), "--quiet")
    return collector


@pytest.mark.parametrize("point", ["order_upload:1", "order_create:1", "order_poll:1", "order_collect:1",
                                   "order_delete:1", "part_write:10", "part_write:16", "part_write:20",
                                   "part_write:24", "part_write:30"])
def test_a_coordinator_killed_anywhere_pays_for_nothing_twice(box, redis, point):
    env, rows = dict(box.env), rows_of(60)
    box.env = {**env, "HEADRACE_TEST_DIE_AT": point}
    simulator, coordinator = start(box, redis)
    box.env = env
    Worker(box, coordinator)
    collector = submit(box, coordinator, rows)
    wait_for("the kill", lambda: not coordinator.is_running() or not collector.is_running())
    if not coordinator.is_running():
        coordinator = coordinator.again()
    finish(box, coordinator, simulator, collector, rows)
