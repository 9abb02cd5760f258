"""`headrace run --state DIR`, stopped in every way and given again: nothing missing, doubled or torn."""
import collections
import os
import pathlib
import random
import signal
import time

import pytest
from conftest import (KEY, Simulator, make_models, make_tags, read_jsonl, sentiments, wait_for,
                      write_jsonl)
from test_run import distinct, many, run

WORKERS, INFLIGHT, BATCH = 2, 2, 20


def start(box, n, models, *options, model="tag"):
    return box.start(f"run{n}", box.bin / "headrace", "run", "-f", models, "-m", model, "-o", "out.jsonl",
                     "--state", "state", "-w", WORKERS, "--max-inflight", INFLIGHT, *options,
                     env={**box.env, "OPENAI_API_KEY": KEY})


def parts(child, name):
    """Pids of a run's parts of one kind, from the children of its process."""
    pids = pathlib.Path(f"/proc/{child.pid}/task/{child.pid}/children")
    found = []
    try:
        for pid in pids.read_text().split():
            if name in pathlib.Path(f"/proc/{pid}/cmdline").read_text():
                found.append(int(pid))
    except OSError:
        pass
    return found


def asked(simulator):
    """How often each record was answered in full."""
    return collections.Counter(record for call in simulator.calls() if call["status"] == 200
                               for record in call["records"])


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def end_somehow(draw, child):
    """Ends a run in one of the ways there are; returns how many calls may have been cut off."""
    way = draw.choice(["interrupt", "terminate", "kill", "kill all"])
    if way in ("interrupt", "terminate"):
        child.process.send_signal(signal.SIGINT if way == "interrupt" else signal.SIGTERM)
        child.wait(30)
        return 0
    pids = [child.pid]
    if way == "kill all":
        pids += [pid for name in ("redis-server", "headrace-coordinator", "headrace-worker")
                 for pid in parts(child, name)]
        draw.shuffle(pids)
    kill(pids)
    child.process.wait()
    return WORKERS * INFLIGHT


@pytest.mark.parametrize("seed", [1])
def test_a_run_killed_twenty_times_writes_what_one_left_alone_writes(box, reviews, seed):
    draw = random.Random(seed)
    simulator = Simulator(box, "--latency-ms", "150")
    models = make_tags(box, simulator.url)
    given = distinct(reviews, 4000)
    given[1234] = {"id": "row-1234"}  # an error row
    source = write_jsonl(box.path / "in.jsonl", given)
    alone = run(box, models, "-i", source, "-o", "alone.jsonl", model="tag")
    assert alone.returncode == 1, alone.stderr.decode()
    want = (box.path / "alone.jsonl").read_bytes()
    before, n_cut, n_kills = asked(simulator), 0, 0
    assert set(before.values()) == {1}
    while n_kills < 20:
        child = start(box, n_kills, models, "-i", source)
        time.sleep(draw.uniform(0.1, 1.0))  # chance decides where it stands
        if not child.is_running():
            break
        n_cut += end_somehow(draw, child)
        n_kills += 1
    last = start(box, "last", models, "-i", source)
    assert last.wait(60) == 1, last.log
    assert (box.path / "out.jsonl").read_bytes() == want
    assert n_kills >= 15
    twice = sum(asked(simulator).values()) - 2 * sum(before.values())
    assert 0 <= twice <= n_cut * BATCH


def test_parts_that_are_killed_are_started_again(box, reviews):
    draw = random.Random(7)
    simulator = Simulator(box, "--latency-ms", "100")
    models = make_tags(box, simulator.url)
    given = distinct(reviews, 3000)
    child = start(box, "", models, "-i", write_jsonl(box.path / "in.jsonl", given))
    out = box.path / "out.jsonl"
    wait_for("first rows", lambda: out.exists() and out.stat().st_size > 0)
    for name in ["headrace-worker", "headrace-coordinator", "redis-server"] * 2:
        victim = draw.choice(wait_for(name, lambda: parts(child, name)))
        kill([victim])
        time.sleep(draw.uniform(0.1, 0.4))  # chance decides what the next one hits
        n = WORKERS if name == "headrace-worker" else 1
        wait_for("another one", lambda: len(set(parts(child, name)) - {victim}) == n)
    assert child.wait(60) == 0, child.log
    assert [row["id"] for row in read_jsonl(out)] == [row["id"] for row in given]
    assert "is started again" in child.log and "6 parts that ended were started again" in child.log
    texts = asked(simulator)
    assert len(texts) == len(given)
    # A call that was cut off by a kill is made again; answers that had arrived are not.
    assert sum(texts.values()) - len(given) <= 4 * WORKERS * INFLIGHT * BATCH


def test_after_an_interrupt_nothing_is_asked_again(box, reviews):
    simulator = Simulator(box, "--latency-ms", "150")
    models = make_tags(box, simulator.url)
    given = distinct(reviews, 1500)
    source = write_jsonl(box.path / "in.jsonl", given)
    out = box.path / "out.jsonl"
    for n in range(2):
        size = out.stat().st_size if out.exists() else 0
        child = start(box, n, models, "-i", source)
        wait_for("more rows", lambda: out.exists() and out.stat().st_size > size)
        child.process.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
        assert "--resume --state" in child.log
    done = run(box, models, "--resume", "--state", "state", model="tag")
    assert done.returncode == 0, done.stderr.decode()
    assert b"written by earlier starts" in done.stderr
    assert [row["id"] for row in read_jsonl(out)] == [row["id"] for row in given]
    assert set(asked(simulator).values()) == {1}
    whole = out.read_bytes()
    again = box.run("headrace", "run", "--resume", "--state", box.path / "state",
                    env={**box.env, "OPENAI_API_KEY": KEY})
    assert again.returncode == 0 and b"finished already" in again.stderr
    assert out.read_bytes() == whole and set(asked(simulator).values()) == {1}


@pytest.mark.parametrize("options", [["--unordered"], ["--unordered", "--partitions", "3"],
                                     ["--partitions", "3"]])
def test_in_any_order_and_partition_every_row_is_there_once(box, reviews, options):
    draw = random.Random(3)
    simulator = Simulator(box, "--latency-ms", "60", "--latency-jitter-ms", "200")
    models = make_tags(box, simulator.url)
    given = distinct(reviews, 2000)
    source = write_jsonl(box.path / "in.jsonl", given)
    for n in range(4):
        child = start(box, n, models, "-i", source, *options)
        time.sleep(draw.uniform(0.6, 1.0))
        kill([child.pid])
        child.process.wait()
    last = start(box, "last", models, "-i", source, *options)
    assert last.wait(60) == 0, last.log
    rows = read_jsonl(box.path / "out.jsonl")
    ids = [row["id"] for row in rows]
    assert sorted(ids) == sorted(row["id"] for row in given)
    if "--unordered" not in options:
        assert ids == [row["id"] for row in given]


def stopped_run(box, models, *options, model="llm_sentiment"):
    """A run that was interrupted once it had written something."""
    child = start(box, "stopped", models, *options, model=model)
    out = box.path / "out.jsonl"
    wait_for("some rows", lambda: out.exists() and out.stat().st_size > 0)
    child.process.send_signal(signal.SIGINT)
    assert child.wait(30) == 130
    return out


def test_two_files_in_another_order_still_match(box, reviews):
    simulator = Simulator(box, "--latency-ms", "100")
    models = make_models(box, simulator.url)
    given = many(reviews, 1200)
    first = write_jsonl(box.path / "a.jsonl", given[:400])
    second = write_jsonl(box.path / "b.jsonl", given[400:])
    stopped_run(box, models, "-i", first, "-i", second)
    done = run(box, models, "-i", second, "-i", first, "-o", "out.jsonl", "--state", "state")
    assert done.returncode == 0, done.stderr.decode()
    rows = read_jsonl(box.path / "out.jsonl")
    assert [row["id"] for row in rows] == [row["id"] for row in given]
    assert [row["sentiment"] for row in rows] == sentiments(box, [row["text"] for row in given])


def test_what_does_not_fit_an_unfinished_run_is_refused(box, reviews):
    simulator = Simulator(box, "--latency-ms", "100")
    models = make_models(box, simulator.url)
    source = write_jsonl(box.path / "in.jsonl", many(reviews, 1000))
    other = write_jsonl(box.path / "other.jsonl", many(reviews, 10))
    out = stopped_run(box, models, "-i", source)
    before = out.read_bytes()

    def refused(*words, status=3):
        done = run(box, models, *words[0])
        assert done.returncode == status, done.stderr.decode()
        for word in words[1:]:
            assert word in done.stderr.decode()
        assert not out.exists() or out.read_bytes() == before

    usual = ["-o", "out.jsonl", "--state", "state"]
    refused(["-i", other, *usual], "in.jsonl", "other.jsonl")
    refused(["-i", source, "-i", other, *usual], "1 input files", "got 2")
    refused(["-i", source, "--meta", *usual], "--meta", "'off'", "'on'")
    refused(["-i", source, "-o", "else.jsonl", "--state", "state"], "--output", "out.jsonl", "else.jsonl")
    refused(["--resume", "-i", source, "-o", "x", "--state", "nowhere"], "nowhere", "no run", status=2)
    out.rename(box.path / "away")
    refused(["-i", source, *usual], "is gone")
    (box.path / "away").rename(out)
    with open(source, "a") as file:
        file.write('{"id": "one-more", "text": "x"}\n')
    refused(["-i", source, *usual], "in.jsonl", "has changed", "bytes of")


def test_a_second_run_on_a_living_one_is_refused(box, reviews):
    simulator = Simulator(box, "--latency-ms", "1200")
    models = make_models(box, simulator.url)
    source = write_jsonl(box.path / "in.jsonl", many(reviews, 200))
    child = start(box, "first", models, "-i", source, model="llm_sentiment")
    wait_for("the parts", lambda: parts(child, "headrace-worker"))
    second = run(box, models, "-i", source, "-o", "out.jsonl", "--state", "state")
    assert second.returncode == 3
    assert b"another run is using" in second.stderr
    assert child.wait(60) == 0, child.log
    assert len(read_jsonl(box.path / "out.jsonl")) == 200


def test_standard_input_cannot_be_read_again(box, reviews):
    simulator = Simulator(box, "--latency-ms", "200")
    models = make_models(box, simulator.url)
    source = write_jsonl(box.path / "in.jsonl", many(reviews, 1000))
    with open(source, "rb") as file:
        child = box.start("piped", box.bin / "headrace", "run", "-f", models, "-m", "llm_sentiment", "-i", "-",
                          "-o", "out.jsonl", "--state", "state", "--max-inflight", 1, stdin=file,
                          env={**box.env, "OPENAI_API_KEY": KEY})
        out = box.path / "out.jsonl"
        wait_for("some rows", lambda: out.exists() and out.stat().st_size > 0)
        child.process.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
    again = run(box, models, "-i", "-", "-o", "out.jsonl", "--state", "state", input=b"")
    assert again.returncode == 3
    assert b"cannot go on" in again.stderr and b"standard input" in again.stderr


def test_a_changed_model_is_told(box, reviews):
    simulator = Simulator(box, "--latency-ms", "100")
    models = make_models(box, simulator.url)
    given = many(reviews, 1000)
    source = write_jsonl(box.path / "in.jsonl", given)
    out = stopped_run(box, models, "-i", source)
    done = run(box, models, "-i", source, "-o", "out.jsonl", "--state", "state", "--set", "batch.size=5")
    assert done.returncode == 0, done.stderr.decode()
    assert b"has changed since the run began" in done.stderr
    assert [row["id"] for row in read_jsonl(out)] == [row["id"] for row in given]


def test_a_torn_end_of_the_state_is_cut_off(box, reviews):
    """The files as a power cut may leave them: each with half a write at its end."""
    simulator = Simulator(box, "--latency-ms", "100")
    models = make_models(box, simulator.url)
    given = many(reviews, 1000)
    source = write_jsonl(box.path / "in.jsonl", given)
    out = stopped_run(box, models, "-i", source)
    with open(out, "ab") as file:
        file.write(b'{"id": "torn')
    with open(box.path / "state/run.journal", "ab") as file:
        file.write(b'{"offset":12345')
    aof = max((box.path / "state/appendonlydir").glob("*.incr.aof"))
    with open(aof, "ab") as file:
        file.write(b"*3\r\n$4\r\nHSET\r\n$5\r\nab")
    done = run(box, models, "-i", source, "-o", "out.jsonl", "--state", "state")
    assert done.returncode == 0, done.stderr.decode()
    assert [row["id"] for row in read_jsonl(out)] == [row["id"] for row in given]


@pytest.mark.parametrize("size", [2, 20])
def test_a_record_that_kills_workers_ends_alone(box, reviews, size):
    """A worker that reads the answer to this record dies, each time."""
    simulator = Simulator(box, "--latency-ms", "20")
    models = make_tags(box, simulator.url)
    given = distinct(reviews, 200)
    given[77]["text"] = "this one is DEADLY to whoever reads it"
    env = {**box.env, "OPENAI_API_KEY": KEY, "HEADRACE_TEST_ABORT_ON": "DEADLY"}
    done = box.run("headrace", "run", "-f", models, "-m", "tag", "-o", "out.jsonl", "-w", 2, "--set",
                   f"batch.size={size}", "-i", write_jsonl(box.path / "in.jsonl", given), env=env)
    if "restarts" not in done.stderr.decode() and done.returncode == 0:
        pytest.skip("the worker was built without test hooks")
    assert done.returncode == 1, done.stderr.decode()
    rows = read_jsonl(box.path / "out.jsonl")
    assert [row["id"] for row in rows] == [row["id"] for row in given]
    assert [(i, row["error"]["code"]) for i, row in enumerate(rows) if row["error"]] == [(77, "worker-lost")]
    assert "may have been billed" in done.stderr.decode()
