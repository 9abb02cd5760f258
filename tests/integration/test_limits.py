"""An account's limits, kept: judged by the provider simulator's ledger, never by this machine's clock.

A busy machine may make calls late, so that what is bounded here are totals and how long a run took at least;
the limits to the call are in tests/unit/limiter_test.c, in simulated time.
"""
import json
import re

import pytest
from conftest import KEY, Coordinator, Simulator, Worker, make_tags, read_jsonl, tags, wait_for, write_jsonl


def distinct(given, n, name="row"):
    return [{"id": f"{name}-{i}", "text": f"{name} {i} {given[i % len(given)]['text']}"} for i in range(n)]


def check_tags(box, rows, given):
    assert sorted(row["id"] for row in rows) == sorted(row["id"] for row in given)
    assert [row for row in rows if row["error"] is not None] == []
    expected = dict(zip((row["id"] for row in given), tags(box, [row["text"] for row in given])))
    assert [row for row in rows if row["tag"] != expected[row["id"]]] == []


def run(box, models, given, *options):
    done = box.run("headrace", "run", "-f", models, "-m", "tag", "-i", write_jsonl(box.path / "in.jsonl", given),
                   "-o", "out.jsonl", *options, env={**box.env, "OPENAI_API_KEY": KEY})
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    check_tags(box, read_jsonl(box.path / "out.jsonl"), given)


def span(calls):
    """Seconds from the first call to the last."""
    times = [call["unix_us"] for call in calls]
    return (max(times) - min(times)) / 1e6


def two_by_two(box, url, more=""):
    """The tag model with two rows a call; returns its file's path."""
    path = make_tags(box, url, more)
    path.write_text(path.read_text().replace("'batch.size' = '20'", "'batch.size' = '2'"))
    return path


# A second's part of 3,000 a minute is 50 calls, so that all at once would be refused; half of the limit leaves
# room for calls that this machine makes late.
@pytest.mark.parametrize("mode,profile,given_rpm,n", [
    ("bucket", "bucket", 3000, 100), ("fixed-window", "window", 3000, 100), ("per-second", "window", 1500, 70)])
def test_a_limit_is_kept_and_nothing_refused(box, reviews, mode, profile, given_rpm, n):
    simulator = Simulator(box, "--limit-mode", mode, "--limit-rpm", "3000")
    models = two_by_two(box, simulator.url, (
        f", 'limit.rpm' = '{given_rpm}', 'limit.profile' = '{profile}'"))
    run(box, models, distinct(reviews, 2 * n))
    calls = simulator.calls()
    assert len(calls) >= n and {call["status"] for call in calls} == {200}
    assert span(calls) > 0.5 * n / (given_rpm / 60)


def test_tokens_are_kept_to_as_well(box, reviews):
    simulator = Simulator(box, "--limit-itpm", "1000000")
    given = distinct(reviews, 120)
    run(box, two_by_two(box, simulator.url, ""), given)
    tokens = sum(call["charged_input"] for call in simulator.calls())
    simulator.stop()
    limited = Simulator(box, "--limit-itpm", str(tokens * 30), name="limited")  # two seconds' worth
    models = two_by_two(box, limited.url, f", 'limit.itpm' = '{tokens * 30}'")
    run(box, models, given)
    calls = limited.calls()
    assert len(calls) >= 60 and {call["status"] for call in calls} == {200}
    assert span(calls) > 1


def test_a_limit_that_only_the_headers_tell_is_adopted(box, reviews):
    simulator = Simulator(box, "--limit-rpm", "3000", "--latency-ms", "50")
    run(box, two_by_two(box, simulator.url, ""), distinct(reviews, 280))
    calls = simulator.calls()
    assert len(calls) >= 140 and {call["status"] for call in calls} == {200}
    assert span(calls) > 0.5 * 140 / 50


def test_two_clusters_share_one_account(box, redis, reviews):
    simulator = Simulator(box, "--limit-rpm", "3000", "--max-concurrency", "6", "--latency-ms", "30")
    models = two_by_two(box, simulator.url, (
        ", 'limit.rpm' = '2400', 'limit.concurrency' = '6', 'limit.profile' = 'window'"))
    jobs = []
    for name in ("left", "right"):
        c = Coordinator(box, redis, "--models", models, "--model", "tag", "--namespace", name, name=name)
        Worker(box, c, name=f"{name}-worker")
        given = distinct(reviews, 120, name)
        rows = write_jsonl(box.path / f"{name}.jsonl", given)
        out = box.path / f"{name}.out"
        jobs.append((name, given, out, [
            box.start(f"{name}-collect", box.bin / "headrace", "collect", "-c", c.address, "-o", out, "--consumer",
                      "c", "--quiet"),
            box.start(f"{name}-submit", box.bin / "headrace", "submit", "-c", c.address, "-m", "tag", "-i", rows)]))
    for name, given, out, _ in jobs:
        wait_for(f"the results of {name}", lambda: len(read_jsonl(out)) >= len(given), seconds=60)
        check_tags(box, read_jsonl(out), given)
    calls = simulator.calls()
    assert len(calls) >= 120 and {call["status"] for call in calls} == {200}  # never seven at once
    assert span(calls) > 0.5 * 120 / 40


LIMITS = "pool,provider,account,model,rpm,profile\nshared,openai,OPENAI_API_KEY,gpt-5.4-*,%s,window\n"


def test_two_models_share_a_row_of_the_limits_file(box, redis, reviews):
    simulator = Simulator(box)
    models = two_by_two(box, simulator.url)
    one = models.read_text()
    models.write_text(one + one.replace("MODEL tag", "MODEL other").replace("gpt-5.4-mini", "gpt-5.4-nano"))
    (box.path / "limits.csv").write_text(LIMITS % 1200)  # 20 a second
    c = Coordinator(box, redis, "--models", models, "--limits", box.path / "limits.csv")
    Worker(box, c)
    given = {name: distinct(reviews, 80, name) for name in ("tag", "other")}
    out = box.path / "out.jsonl"
    box.start("collect", box.bin / "headrace", "collect", "-c", c.address, "-o", out, "--consumer", "c", "--quiet")
    for name, rows in given.items():
        box.start(f"submit-{name}", box.bin / "headrace", "submit", "-c", c.address, "-m", name, "-i",
                  write_jsonl(box.path / f"{name}.jsonl", rows))
    wait_for("all results", lambda: len(read_jsonl(out)) >= 160, seconds=60)
    check_tags(box, read_jsonl(out), given["tag"] + given["other"])
    calls = simulator.calls()
    assert len(calls) >= 80 and {call["status"] for call in calls} == {200}
    assert span(calls) > 0.65 * 80 / 20  # with a pool each it would be half
    done = box.run("headrace", "limits", "-c", c.address, "--json")
    assert [pool["pool"] for pool in json.loads(done.stdout)["pools"]] == ["shared"]


def test_a_run_takes_a_limits_file(box, reviews):
    simulator = Simulator(box)
    models = two_by_two(box, simulator.url, ", 'limit.rpm' = '100000'")
    (box.path / "limits.csv").write_text(LIMITS % 1500)  # 25 a second
    given = distinct(reviews, 100)
    dry = box.run("headrace", "run", "-f", models, "-m", "tag", "-i", write_jsonl(box.path / "in.jsonl", given),
                  "--dry-run", "--limits", "limits.csv")
    assert dry.returncode == 0, dry.stderr.decode()
    assert re.search(rb"time at the limits +2 s .*limit\.rpm", dry.stdout), dry.stdout.decode()
    run(box, models, given, "--limits", "limits.csv")
    calls = simulator.calls()
    assert len(calls) >= 50 and {call["status"] for call in calls} == {200}
    assert span(calls) > 0.5 * 50 / 25


def test_a_bad_limits_file_is_refused_by_its_line(box):
    models = make_tags(box, "http://127.0.0.1:1/v1")
    (box.path / "limits.csv").write_text(LIMITS % "many")
    rows = write_jsonl(box.path / "in.jsonl", [{"id": "a", "text": "a"}])
    done = box.run("headrace", "run", "-f", models, "-m", "tag", "-i", rows, "-o", "out.jsonl", "--limits",
                   "limits.csv", env={**box.env, "OPENAI_API_KEY": KEY})
    assert done.returncode == 2
    assert b"limits.csv:2: rpm: got 'many', want a whole number, 1 to 1000000000" in done.stderr


def test_a_limit_of_a_day_holds_the_rest_back(box, reviews):
    simulator = Simulator(box)
    models = two_by_two(box, simulator.url, ", 'limit.rpd' = '20', 'limit.profile' = 'window'")
    rows = write_jsonl(box.path / "in.jsonl", distinct(reviews, 100))
    job = box.start("run", box.bin / "headrace", "run", "-f", models, "-m", "tag", "-i", rows, "-o", "out.jsonl",
                    env={**box.env, "OPENAI_API_KEY": KEY})
    job.wait_log(r" 20 calls .* wait ")
    assert job.is_running()
    job.stop()
    assert len(simulator.calls()) == 20 and {call["status"] for call in simulator.calls()} == {200}
