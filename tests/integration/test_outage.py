"""A provider that is out for a while: calls wait for it, and no record is given up."""
import json
import re
import urllib.request

import pytest
from conftest import KEY, Simulator, make_models, read_jsonl, sentiments, wait_for, write_jsonl


def control(simulator, change):
    request = urllib.request.Request(f"http://127.0.0.1:{simulator.port}/control", json.dumps(change).encode())
    urllib.request.urlopen(request, timeout=10).close()


def start(box, url, rows):
    """A run of rows small batches, some 200 a second."""
    models = make_models(box, url, **{"batch_size": 2, "limit_rpm": 12000, "max_retries": 3})
    write_jsonl(box.path / "in.jsonl", rows)
    return box.start("run", box.bin / "headrace", "run", "-f", models, "-m", "llm_sentiment", "-i", "in.jsonl",
                     "-o", "out.jsonl", "--state", "state", env={**box.env, "OPENAI_API_KEY": KEY})


def check(box, run, rows):
    assert run.wait(90) == 0, run.log
    out = read_jsonl(box.path / "out.jsonl")
    assert [row["id"] for row in out] == [row["id"] for row in rows]
    assert [row["sentiment"] for row in out] == sentiments(box, [row["text"] for row in rows])
    match = re.search(r"outages +(\d+): calls waited (\d+\.\d) s for the provider", run.log)
    assert match, run.log
    return float(match[2])


@pytest.fixture
def rows(reviews):
    return [{"id": f"r{i}", "text": reviews[i % len(reviews)]["text"]} for i in range(1200)]


@pytest.mark.parametrize("fault", ["503", "500"])
def test_a_provider_that_fails_for_a_while_costs_no_record(box, rows, fault):
    simulator = Simulator(box, "--control")
    run = start(box, simulator.url, rows)
    wait_for("the first answers", lambda: len(simulator.calls()) >= 20)
    control(simulator, {"fault": {fault: 1}, "fault-ms": 8000})
    assert check(box, run, rows) > 4
    failed = [call for call in simulator.calls() if call["status"] == int(fault)]
    assert 3 <= len(failed) < 300  # one call tries now and then: without that there would be some 1600


def test_a_provider_that_is_gone_for_a_while_costs_no_record(box, rows):
    simulator = Simulator(box)
    run = start(box, simulator.url, rows)
    wait_for("the first answers", lambda: len(simulator.calls()) >= 20)
    simulator.stop()
    wait_for("the outage to be seen", lambda: "the provider fails" in run.log or "pool.out" in
             "".join(path.read_text(errors="replace") for path in box.path.glob("state/**/*.log")), 30)
    Simulator(box, name="provider-back", port=simulator.port)
    assert check(box, run, rows) >= 0
