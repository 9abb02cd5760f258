"""Separate daemons over TCP: a coordinator, four workers, and whoever sends and takes."""
import collections
import json
import subprocess
import sys

import pytest
from conftest import (EXAMPLES, EXAMPLES_BIN, KEY, REVIEWS, SAMPLE, Coordinator, Simulator, Worker, free_port,
                      http_get, make_tags, metrics, read_jsonl, tags, wait_for, write_jsonl)
from wire import Peer


def distinct(given, n):
    """n rows made from those given, each with an id and a text of its own."""
    return [{"id": f"row-{i}", "text": f"{i} {given[i % len(given)]['text']}"} for i in range(n)]


def check_results(box, results, given):
    """Each row has exactly one result, the one that only its own text has."""
    times = collections.Counter(result["id"] for result in results)
    assert [(id, n) for id, n in times.items() if n != 1] == []
    assert set(times) == {row["id"] for row in given}
    assert [r for r in results if r["error"] is not None] == []
    expected = dict(zip((row["id"] for row in given), tags(box, [row["text"] for row in given])))
    assert [r for r in results if r["tag"] != expected[r["id"]]] == []


class Cluster:
    """Redis, a simulator, a coordinator with the tag model, four workers."""

    def __init__(self, box, redis, *options, simulator=(), n_workers=4, more="", worker=()):
        self.box, self.redis = box, redis
        self.simulator = Simulator(box, *simulator)
        self.models = make_tags(box, self.simulator.url, more)
        self.coordinator = Coordinator(box, redis, "--models", self.models, "--model", "tag", *options)
        self.workers = [Worker(box, self.coordinator, *worker, name=f"worker-{i}") for i in range(n_workers)]

    def collect(self, name="collector", *options):
        """`headrace collect` in the background."""
        return self.box.start(name, self.box.bin / "headrace", "collect", "-c", self.coordinator.address,
                              "-o", f"{name}.out", "--consumer", name, "--quiet", *options)

    def submit(self, rows, *options, name="rows"):
        return self.box.run("headrace", "submit", "-c", self.coordinator.address, "-m", "tag", "-i",
                            write_jsonl(self.box.path / f"{name}.jsonl", rows), *options)

    def results(self, name="collector"):
        return read_jsonl(self.box.path / f"{name}.out")

    def value(self, name):
        return self.coordinator.metrics()[name]


@pytest.fixture
def cluster(box, redis):
    return lambda *options, **how: Cluster(box, redis, *options, **how)


def test_submit_and_collect_through_four_workers(box, cluster, reviews):
    c = cluster()
    given = distinct(read_jsonl(REVIEWS) if REVIEWS.exists() else reviews, 3000)
    collector = c.collect("collector", "--count", "3000")
    done = c.submit(given)
    assert done.returncode == 0, done.stderr.decode()
    assert b"3,000 rows accepted" in done.stderr
    assert collector.wait() == 0, collector.log
    check_results(box, c.results(), given)
    calls = c.simulator.calls()
    assert 150 <= len(calls) <= 160 + 8, "at most one short batch a partition"
    assert len({call["client_id"] for call in calls}) == len(calls), "each call has a name of its own"
    numbers = c.coordinator.metrics()
    assert numbers["headrace_calls_total"] == len(calls)
    assert numbers["headrace_records_in_total"] == 3000
    assert numbers['headrace_results_total{outcome="ok"}'] == 3000
    assert numbers['headrace_tokens_total{kind="input"}'] == sum(call["input_tokens"] for call in calls)
    assert numbers['headrace_tokens_total{kind="output"}'] == sum(call["output_tokens"] for call in calls)
    assert numbers["headrace_call_latency_seconds_count"] == len(calls)
    assert numbers["headrace_workers"] == 4 and numbers["headrace_queued_records"] == 0
    of_workers = [metrics(worker.metrics_url) for worker in c.workers]
    ok = [sum(v for k, v in m.items() if k.startswith("headrace_worker_calls_total")) for m in of_workers]
    assert sum(ok) == len(calls) and all(n > 0 for n in ok), "every worker had its share"


def test_health_says_whether_it_works(box, cluster):
    c = cluster(n_workers=1)
    for url in (c.coordinator.metrics_url, c.workers[0].metrics_url):
        wait_for("health", lambda: http_get(url + "/health")[0] == 200)
        assert isinstance(json.loads(http_get(url + "/health")[1]), dict)
        assert http_get(url + "/nothing")[0] == 404
    c.redis.kill()
    wait_for("ill health", lambda: http_get(c.coordinator.metrics_url + "/health")[0] == 503)


# ---- The examples of docs/, as they stand ---------------------------------------------------------

def example(box, name, language, *args):
    """Starts an example of docs/ with the arguments that its header names."""
    command = [sys.executable, EXAMPLES / f"{name}.py"] if language == "python" else [EXAMPLES_BIN / name]
    return box.start(f"{name}-{language}", *command, *args)


def acked_results(path):
    return [json.loads(line.split(b" ", 2)[2]) for line in path.read_bytes().split(b"\n") if line]


@pytest.mark.parametrize("language", ["python", "c"])
def test_push_producer_to_pull_consumer(box, cluster, reviews, language):
    c = cluster()
    given = distinct(reviews, 600)
    file = write_jsonl(box.path / "rows.jsonl", given)
    taker = example(box, "consumer_pull", language, c.coordinator.address_out, "out", 600)
    wait_for("the consumer", lambda: taker.is_running())
    sender = example(box, "producer_push", language, c.coordinator.address_in, file)
    assert sender.wait() == 0, sender.log
    assert taker.wait() == 0, taker.log
    check_results(box, read_jsonl(box.path / "out"), given)


@pytest.mark.parametrize("language", ["python", "c"])
def test_dealer_producer_to_dealer_consumer(box, cluster, reviews, language):
    c = cluster()
    given = distinct(reviews, 900)
    file = write_jsonl(box.path / "rows.jsonl", given)
    taker = example(box, "consumer_dealer", language, c.coordinator.address, "taker", "out", 900)
    sender = example(box, "producer_dealer", language, c.coordinator.address, "sender", "tag", file)
    assert sender.wait() == 0, sender.log
    assert "900 rows acked" in sender.log
    assert taker.wait() == 0, taker.log
    check_results(box, acked_results(box.path / "out"), given)


def test_python_sends_msgpack_that_names_its_model(box, cluster, reviews):
    c = cluster("--model", "none")
    given = distinct(reviews, 200)
    file = write_jsonl(box.path / "rows.jsonl", given)
    taker = example(box, "consumer_dealer", "python", c.coordinator.address, "taker", "out", 200)
    sender = example(box, "producer_push", "python", c.coordinator.address_in, file, "tag")
    assert sender.wait() == 0, sender.log
    assert taker.wait() == 0, taker.log
    check_results(box, acked_results(box.path / "out"), given)


def test_a_producer_that_starts_again_sends_nothing_twice(box, cluster, reviews):
    c = cluster()
    given = distinct(reviews, 400)
    file = write_jsonl(box.path / "rows.jsonl", given)
    first = example(box, "producer_dealer", "python", c.coordinator.address, "sender", "tag", file)
    assert first.wait() == 0, first.log
    more = distinct(reviews, 500)
    write_jsonl(file, more)  # the file has grown
    taker = example(box, "consumer_dealer", "c", c.coordinator.address, "taker", "out", 500)
    second = example(box, "producer_dealer", "c", c.coordinator.address, "sender", "tag", file)
    assert second.wait() == 0, second.log
    assert taker.wait() == 0, taker.log
    check_results(box, acked_results(box.path / "out"), more)
    assert sum(call["items"] for call in c.simulator.calls()) == 500


@pytest.mark.parametrize("language", ["python", "c"])
def test_a_consumer_that_is_killed_goes_on_where_it_was(box, cluster, reviews, language):
    c = cluster(simulator=("--latency-ms", "100"), worker=("--max-inflight", "2"))
    given = distinct(reviews, 1000)
    args = (c.coordinator.address, "taker", "out", 1000)
    out = box.path / "out"
    for i in range(2):
        first = example(box, "consumer_dealer", language, *args)
        if i == 0:
            assert c.submit(given).returncode == 0
        size = out.stat().st_size if out.exists() else 0
        wait_for("some results", lambda: out.exists() and out.stat().st_size > size)
        first.kill()
    last = example(box, "consumer_dealer", language, *args)
    assert last.wait() == 0, last.log
    check_results(box, acked_results(out), given)


# ---- Parts that are killed ------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_worker_that_goes_takes_nothing_with_it(box, cluster, reviews, how):
    """kill: kill -9 with calls in flight; stop: SIGTERM, which lets it finish them."""
    c = cluster("--heartbeat", "200ms", simulator=("--latency-ms", "150"), more=", 'worker.lost.ms' = '1000'",
                worker=("--max-inflight", "4"))
    given = distinct(reviews, 2000)
    collector = c.collect("collector", "--count", "2000")
    assert c.submit(given).returncode == 0
    for worker in c.workers[:2]:
        wait_for("calls in flight", lambda: metrics(worker.metrics_url)["headrace_worker_calls_inflight"] > 0)
        if how == "kill":
            worker.kill()
        else:
            assert worker.stop() == 0, worker.log
            assert "worker.drain" in worker.log
    assert collector.wait() == 0, collector.log
    check_results(box, c.results(), given)
    items = sum(call["items"] for call in c.simulator.calls() if call["complete"])
    numbers = c.coordinator.metrics()
    if how == "stop":
        assert items == 2000, "what a drained worker had in flight was answered and used"
        assert numbers["headrace_calls_ambiguous_total"] == 0
    else:
        assert numbers["headrace_workers_lost_total"] == 2
        assert numbers["headrace_calls_ambiguous_total"] > 0
        assert items <= 2000 + 20 * numbers["headrace_calls_ambiguous_total"]


@pytest.mark.parametrize("language", ["python", "c"])
def test_a_coordinator_that_is_killed_goes_on(box, cluster, reviews, language):
    """kill -9 again and again: each record once at an acked consumer, and nothing paid for twice."""
    c = cluster("--grace", "5s", simulator=("--latency-ms", "100"), worker=("--max-inflight", "3"))
    given = distinct(reviews, 2000)
    file = write_jsonl(box.path / "rows.jsonl", given)
    out = box.path / "out"
    taker = example(box, "consumer_dealer", language, c.coordinator.address, "taker", "out", 2000)
    sender = example(box, "producer_dealer", language, c.coordinator.address, "sender", "tag", file)
    for _ in range(3):
        size = out.stat().st_size if out.exists() else 0
        wait_for("more results", lambda: out.exists() and out.stat().st_size > size)
        c.coordinator.kill()
        c.coordinator = c.coordinator.again()
    assert sender.wait() == 0, sender.log
    assert taker.wait() == 0, taker.log
    check_results(box, acked_results(out), given)
    assert sum(call["items"] for call in c.simulator.calls()) == 2000


def test_redis_that_comes_again_has_everything(box, cluster, reviews):
    from conftest import Redis
    c = cluster(simulator=("--latency-ms", "50"), worker=("--max-inflight", "2"))
    given = distinct(reviews, 1500)
    collector = c.collect("collector", "--count", "1500")
    sender = example(box, "producer_dealer", "python", c.coordinator.address, "sender", "tag",
                     write_jsonl(box.path / "rows.jsonl", given))
    out = box.path / "collector.out"
    wait_for("some results", lambda: out.exists() and out.stat().st_size > 0)
    c.redis.kill()
    wait_for("the loss is seen", lambda: "redis.lost" in c.coordinator.log)
    Redis(box)
    assert sender.wait() == 0, sender.log
    assert collector.wait() == 0, collector.log
    check_results(box, c.results(), given)


def test_a_stopped_worker_is_lost_and_its_answers_are_used(box, cluster, reviews):
    """SIGSTOP: it falls silent with calls in flight, and wakes up after they were given to others."""
    c = cluster("--heartbeat", "200ms", n_workers=2, simulator=("--latency-ms", "100"),
                worker=("--max-inflight", "2"))
    given = distinct(reviews, 600)
    collector = c.collect("collector", "--count", "600")
    assert c.submit(given).returncode == 0
    sleeper = c.workers[0]
    wait_for("calls in flight", lambda: metrics(sleeper.metrics_url)["headrace_worker_calls_inflight"] > 0)
    sleeper.process.send_signal(19)
    try:
        wait_for("the loss is seen", lambda: c.value("headrace_workers_lost_total") >= 1)
    finally:
        sleeper.process.send_signal(18)
    assert collector.wait() == 0, collector.log
    check_results(box, c.results(), given)
    wait_for("it is back", lambda: c.value("headrace_workers") == 2)


def test_rows_that_name_no_model_are_not_submitted(box, cluster, reviews):
    c = cluster()
    given = write_jsonl(box.path / "flat.jsonl", reviews[:5])
    done = box.run("headrace", "submit", "-c", c.coordinator.address, "-i", given)
    assert done.returncode == 2
    assert b"flat.jsonl:1: names no model: say --model NAME" in done.stderr
    assert c.value("headrace_records_in_total") == 0
    enveloped = write_jsonl(box.path / "enveloped.jsonl", [{"model": "tag", "fields": row} for row in reviews[:5]])
    done = box.run("headrace", "submit", "-c", c.coordinator.address, "-i", enveloped)
    assert done.returncode == 0, done.stderr.decode()


def test_models_are_created_listed_and_shown(box, coordinator):
    def models(*words):
        return box.run("headrace", "models", *words, "-c", coordinator.address)

    (box.path / "more.sql").write_text((box.path / "llm_sentiment.sql").read_text()
                                       .replace("llm_sentiment", "another"))
    done = models("create", "more.sql")
    assert done.returncode == 0 and done.stdout == b"1 model created or changed\n", done.stderr.decode()
    assert models("list").stdout.decode().splitlines() == ["another\trevision 1", "llm_sentiment\trevision 1"]
    assert b"CREATE MODEL `another`" in models("show", "another").stdout
    for words in (["create"], ["show"], ["nothing"], []):
        done = models(*words)
        assert done.returncode == 2 and b"create FILE" in done.stderr, words


# ---- Options and limits ---------------------------------------------------------------------------

def test_overrides_never_share_a_prompt(box, cluster):
    c = cluster()
    rows = [{"id": f"row-{i}", "model": "tag", "fields": {"text": f"{kind} {i}"},
             "options": {"temperature": kind} if kind else {}}
            for i in range(300) for kind in [["", "0.1", "0.9"][i % 3]]]
    collector = c.collect("collector", "--count", "300")
    assert c.submit(rows).returncode == 0
    assert collector.wait() == 0, collector.log
    flat = [{"id": row["id"], "text": row["fields"]["text"]} for row in rows]
    check_results(box, c.results(), flat)
    kind_of = dict(zip(tags(box, [row["text"] for row in flat]), (row["text"].split()[0] if i % 3 else ""
                                                                  for i, row in enumerate(flat))))
    for call in c.simulator.calls():
        kinds = {kind_of["h:" + hash] for hash in call["records"]}
        assert len(kinds) == 1, call


def test_results_of_one_key_come_in_its_order(box, cluster, reviews):
    c = cluster("--ordered", "key", simulator=("--latency-ms", "5", "--latency-jitter-ms", "80",
                                               "--fault", "missing=0.2"))
    rows = [{**row, "key": f"key-{i % 7}"} for i, row in enumerate(distinct(reviews, 700))]
    collector = c.collect("collector", "--count", "700")
    assert c.submit(rows).returncode == 0
    assert collector.wait() == 0, collector.log
    results = c.results()
    check_results(box, results, rows)
    for key in {row["key"] for row in rows}:
        assert [r["id"] for r in results if r["key"] == key] == [r["id"] for r in rows if r["key"] == key]


def test_a_slow_provider_stops_a_push_producer(box, cluster, reviews):
    """Ten times more than there is room for: the producer blocks, the coordinator stays small."""
    c = cluster("--max-bytes", "256KB", simulator=("--latency-ms", "400"), n_workers=1,
                worker=("--max-inflight", "2"))
    text = "x" * 2000
    given = [{"id": f"row-{i}", "text": f"{i} {text}"} for i in range(20000)]
    sender = example(box, "producer_push", "c", c.coordinator.address_in,
                     write_jsonl(box.path / "rows.jsonl", given))
    most = 0
    def is_full():
        nonlocal most
        numbers = c.coordinator.metrics()
        most = max(most, numbers["headrace_queued_bytes"])
        return numbers['headrace_results_total{outcome="ok"}'] >= 100 and numbers["headrace_queued_bytes"] > 200_000
    wait_for("it is full", is_full)
    assert sender.is_running(), "the producer was not held back"
    assert most < 2 * 256 * 1024
    sender.kill()


def test_a_port_in_use_is_named(box, cluster):
    c = cluster(n_workers=0)
    for option, address in (("--bind", c.coordinator.address), ("--bind-in", c.coordinator.address_in),
                            ("--metrics", c.coordinator.metrics_url.removeprefix("http://"))):
        options = {"--bind": f"tcp://127.0.0.1:{free_port()}", "--redis": c.redis.address,
                   "--namespace": "other", option: address}
        done = box.run("headrace-coordinator", *(word for pair in options.items() for word in pair))
        assert done.returncode == 3
        message = done.stderr.decode()
        assert option in message and "in use" in message and address.split("//")[-1] in message


def test_a_redis_that_may_lose_data_is_refused(box, redis):
    subprocess.run(["redis-cli", "-s", str(redis.socket_path), "config", "set", "appendfsync", "everysec"],
                   check=True, stdout=subprocess.DEVNULL)
    done = box.run("headrace-coordinator", "--bind", f"tcp://127.0.0.1:{free_port()}", "--redis", redis.address)
    assert done.returncode == 3
    for word in ("appendfsync", "everysec", "always", "durability"):
        assert word in done.stderr.decode()


def test_models_are_listed_created_and_refused(box, cluster):
    c = cluster(n_workers=0)
    tool = ("-c", c.coordinator.address)
    done = box.run("headrace", "models", "list", *tool)
    assert done.returncode == 0 and b"tag" in done.stdout
    (box.path / "bad.sql").write_text("CREATE MODEL bad INPUT (a STRING) OUTPUT (b STRING)\n"
                                      "WITH ('provider' = 'openai', 'batch.size' = '-1');")
    done = box.run("headrace", "models", "create", *tool, "-f", "bad.sql")
    assert done.returncode == 2
    assert b"'batch.size'" in done.stderr and b"2" in done.stderr
    done = box.run("headrace", "status", *tool)
    assert done.returncode == 0 and json.loads(done.stdout)["open"] is True


def test_a_frame_of_bad_rows_is_answered_row_by_row(box, cluster):
    """Without acks too: what cannot be read comes out as an error result that says where it stood."""
    c = cluster(n_workers=1)
    with Peer(c.coordinator.address) as taker:
        taker.say("SUBSCRIBE", consumer="c", credit=10, format="json")
        taker.hear_kind("SUBSCRIBED")
        import zmq
        push = zmq.Context.instance().socket(zmq.PUSH)
        push.connect(c.coordinator.address_in)
        push.send(b'{"id":"a","text":"one"}\n{"id":"b",oops}\n{"id":"c"}\n{"id":"d","text":"four"}\n')
        got = []
        while len(got) < 4:
            results = taker.hear_kind("RESULTS")
            got += [json.loads(line) for line in results["results"].splitlines()]
            taker.say("ACK", partition=results["partition"], upto=results["first_oseq"] + results["count"] - 1)
        push.close(0)
    errors = {row["id"]: row["error"] for row in got}
    assert errors["a"] is None and errors["d"] is None
    assert "column 'text'" in errors["c"]["message"]
    (bad,) = (error for id, error in errors.items() if id not in "acd")
    assert bad["code"] == "bad-record" and "row 2" in bad["message"]


def test_interactive_rows_do_not_wait_for_a_bulk_job(box, cluster, reviews):
    """Judged by the order of the calls in the simulator's ledger: interactive ones are of 5 records."""
    c = cluster(simulator=["--latency-ms=30"], more=", 'limit.concurrency' = '4'")
    bulk, urgent = distinct(reviews, 20000), [dict(row, id=f"urgent-{row['id']}") for row in distinct(reviews, 20)]
    collector = c.collect("collector", "--count", "20020")
    done = c.submit(bulk, "--set", "priority=bulk", name="bulk")
    assert done.returncode == 0, done.stderr.decode()
    done = c.submit(urgent, "--set", "priority=interactive", "--set", "batch.size=5", name="urgent")
    assert done.returncode == 0, done.stderr.decode()
    n_before = len(c.simulator.calls())
    assert n_before < 700, "most of the bulk job is still to come"
    assert collector.wait() == 0, collector.log
    check_results(box, c.results(), bulk + urgent)
    calls = [call["items"] for call in c.simulator.calls()]
    last = max(i for i, n in enumerate(calls) if n < 20 and i < len(calls) - 8)
    assert last - n_before < 100, f"{last - n_before} calls were between the rows and their answers"
