"""Memory, measured on the release build: sanitizers would show their own."""
import pathlib
import subprocess
import threading

import pytest
from conftest import (KEY, LONG, RELEASE_BIN, REVIEWS, Box, Coordinator, Redis, Simulator, Worker, make_tags,
                      read_jsonl, wait_for, write_jsonl)

RECORDS = 2_000_000 if LONG else 300_000

pytestmark = pytest.mark.skipif(not (RELEASE_BIN / "headrace-worker").exists(), reason="no release build")


@pytest.fixture
def release(box):
    (box.path / "release").mkdir()
    release = Box(box.path / "release", RELEASE_BIN)
    yield release
    release.end()


def peak_mb(pid):
    """VmHWM of a process, with its name; None when it is gone."""
    try:
        fields = dict(line.split(":", 1) for line in
                      pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
        return fields["Name"].strip(), int(fields["VmHWM"].split()[0]) / 1024
    except (OSError, KeyError):
        return None


def family(pid):
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def test_coordinator_and_worker_stay_under_100_mb(release, reviews):
    given = read_jsonl(REVIEWS) if REVIEWS.exists() else reviews * 10
    given = [{"id": str(i), "text": row["text"]} for i, row in enumerate(given)]
    redis, simulator = Redis(release), Simulator(release)
    coordinator = Coordinator(release, redis, "--models", make_tags(release, simulator.url))
    worker = Worker(release, coordinator)
    done = release.run("headrace", "submit", "-c", coordinator.address, "-m", "tag", "-i",
                       write_jsonl(release.path / "in.jsonl", given))
    assert done.returncode == 0, done.stderr.decode()
    wait_for("all answered", lambda: coordinator.metrics()['headrace_results_total{outcome="ok"}'] == len(given))
    peaks = dict([peak_mb(coordinator.pid), peak_mb(worker.pid)])
    print(peaks)
    assert sum(peaks.values()) < 100, peaks


def test_a_long_stream_takes_constant_memory(release):
    """Standard input to standard output: nothing but headrace itself could grow."""
    simulator = Simulator(release, "--ledger", "/dev/null")
    out = open(release.path / "out.jsonl", "wb")
    run = release.start(
        "run", release.bin / "headrace", "run", "-f", make_tags(release, simulator.url), "-m", "tag", "-i", "-",
        "-o", "-", "--quiet", "--state", release.path / "state", stdin=subprocess.PIPE, stdout=out,
        env={**release.env, "OPENAI_API_KEY": KEY})
    n_fed = 0

    def feed():
        nonlocal n_fed
        with run.process.stdin as pipe:
            for i in range(RECORDS):
                pipe.write(b'{"id":%d,"text":"record %d of a long stream, good or bad"}\n' % (i, i))
                n_fed = i + 1

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    seconds = 3000 if LONG else 120
    wait_for("a part of the stream", lambda: n_fed > RECORDS * 0.5, seconds)
    # The window is full by now: what is held has reached its size.
    early = {pid: peak_mb(pid) for pid in family(run.pid)}
    late = dict(early)

    def is_over():
        late.update({pid: peak for pid in early if (peak := peak_mb(pid))})
        return not run.is_running()

    wait_for("the end of the stream", is_over, seconds)
    assert run.process.returncode == 0, run.log
    out.close()
    with open(release.path / "out.jsonl", "rb") as lines:
        n = sum(1 for i, line in enumerate(lines) if b'"id":%d,' % i in line and b'"error": null' in line)
    assert n == RECORDS
    print("peaks in MB:", [(name, round(early[pid][1]), round(mb)) for pid, (name, mb) in late.items()])
    grown = {name: mb - early[pid][1] for pid, (name, mb) in late.items()}
    # Redis keeps an append-only file and rewrites it now and then, by a copy of itself.
    assert all(mb < 20 for name, mb in grown.items() if name != "redis-server"), (early, late)
