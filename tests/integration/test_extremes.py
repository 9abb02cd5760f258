"""A thousand workers that come at once, and a disk that is full."""
import subprocess
import time

import msgpack
import pytest
import zmq
from conftest import Coordinator, Redis, wait_for, write_jsonl
from test_cluster import Cluster, check_results
from test_run import distinct
from wire import KINDS, frame

N_WORKERS = 1000
AGAIN_S = 1  # a heartbeat


def greet(sockets, incarnation):
    """All say HELLO at once; returns how long each waited for its WELCOME, in seconds. With each heartbeat, who is welcome
    says PING, and who is not says HELLO again: what was given to a connection on its way out is lost."""
    began, waited, poller = time.monotonic(), {}, zmq.Poller()
    number = {socket: i for i, socket in enumerate(sockets)}

    def hello(socket):
        socket.send(frame("HELLO", worker=f"w{number[socket]}", incarnation=incarnation, version="test", max_inflight=1,
                          max_bytes=1 << 20))

    for socket in sockets:
        poller.register(socket, zmq.POLLIN)
        hello(socket)
    again = began + AGAIN_S
    while len(waited) < len(sockets) and time.monotonic() - began < 30:
        for socket, _ in poller.poll(1000):
            got = socket.recv()
            if got[3] == KINDS["WELCOME"]:
                waited[number[socket]] = time.monotonic() - began
            elif got[3] == KINDS["REFUSED"] and msgpack.unpackb(got[4:])["code"] == "starting":
                hello(socket)
        if time.monotonic() > again:
            again += AGAIN_S
            for socket in sockets:
                if number[socket] in waited:
                    socket.send(frame("PING", worker=True))
                else:
                    hello(socket)
    return sorted(waited.values())


def test_a_thousand_workers_come_again_at_once(box):
    redis = Redis(box)
    coordinator = Coordinator(box, redis)
    context = zmq.Context()
    context.max_sockets = 2 * N_WORKERS
    sockets = []
    try:
        for _ in range(N_WORKERS):
            socket = context.socket(zmq.DEALER)
            socket.linger = 0
            socket.reconnect_ivl = 100
            socket.connect(coordinator.address)
            sockets.append(socket)
        assert len(greet(sockets, 1)) == N_WORKERS
        coordinator.kill()
        coordinator = coordinator.again()
        # HELLO waits in each socket until it is connected again, and each is answered.
        assert len(greet(sockets, 1)) == N_WORKERS
        assert coordinator.metrics()["headrace_workers"] == N_WORKERS
    finally:
        for socket in sockets:
            socket.close()
        context.term()


@pytest.fixture
def small_disk(box):
    """A file system of 8 MB where Redis keeps its file."""
    folder = box.path / "redis"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True)
    if done.returncode != 0:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_loses_nothing(box, small_disk, reviews):
    """With appendfsync always Redis ends when it cannot write. What was acked is there when it comes again."""
    redis = Redis(box)
    c = Cluster(box, redis, simulator=("--latency-ms", "50"), worker=("--max-inflight", "4"))
    given = distinct(reviews, 1500)
    collector = c.collect("collector", "--count", "1500")
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as f:
        try:
            while True:
                f.write(bytes(16384))
        except OSError:
            pass  # full
    sender = box.start("sender", box.bin / "headrace", "submit", "-c", c.coordinator.address, "-m", "tag", "-i",
                       write_jsonl(box.path / "rows.jsonl", given))
    wait_for("Redis is lost", lambda: "redis.lost" in c.coordinator.log)
    filler.unlink()
    wait_for("Redis has ended", lambda: redis.process.poll() is not None)
    Redis(box)
    assert sender.wait() == 0, sender.log
    assert collector.wait() == 0, collector.log
    check_results(box, c.results(), given)
