"""Everything is killed, stopped and cut off, and then nothing may be lost, doubled or paid again.

The short set of tests/chaos, and the fault proxy's own tests.
"""
import socket
import subprocess
import sys
import time

import pytest
from conftest import BIN, ROOT, wait_for

sys.path.insert(0, str(ROOT / "tests/chaoskit"))
from checker import check  # noqa: E402
from cluster import Cluster, Proxy, Trouble  # noqa: E402
from monkey import MIX, Monkey  # noqa: E402
from scenarios import SCENARIOS, has_hooks  # noqa: E402


def run(folder, act, finish_s=60, finishes=True, **how):
    cluster = Cluster(folder, BIN, **how)
    try:
        act(cluster)
        if finishes:
            cluster.finish(finish_s)
        verdict = check(cluster) if finishes else {"ok": True}
    except Trouble as trouble:
        logs = "".join(f"\n--- {part.name}\n{part.log.read_text(errors='replace')[-1500:]}"
                       for part in cluster.parts.values())
        pytest.fail(f"{trouble}{logs}")
    finally:
        cluster.end()
    assert verdict["ok"] and not cluster.faults_found, {**verdict, "faults": cluster.faults_found}
    return verdict


@pytest.mark.parametrize("name", [name for name, row in SCENARIOS.items() if row["short"]])
def test_scenario_of_the_fault_matrix(tmp_path, name):
    row = SCENARIOS[name]
    if row["hooks"] and not has_hooks(BIN):
        pytest.skip("needs programs built with HEADRACE_TEST_HOOKS")
    verdict = run(tmp_path / "c", row["run"], row["finish_s"], row["finishes"], **row["how"])
    assert not row["finishes"] or verdict["records"] > 0


def test_random_faults_for_a_few_seconds(tmp_path):
    verdict = run(tmp_path / "c", Monkey(seed=7, seconds=8).run, 90, **{**MIX, "rate": 500})
    assert verdict["records"] > 0 and verdict["calls"] > 0


# ---- The proxy itself ---------------------------------------------------------------------------------


class Echo:
    """A link to a server of this test: pair() gives both ends of a connection through the proxy."""

    def __init__(self, folder):
        path = folder / "proxy.sock"
        self.process = subprocess.Popen([str(BIN / "headrace-faultproxy"), str(path)])
        self.proxy = Proxy(self.process, path)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.proxy.link("x", self.server.getsockname()[1])

    def connect(self):
        client = socket.create_connection(("127.0.0.1", self.port))
        client.settimeout(5)
        return client

    def accept(self):
        self.server.settimeout(5)
        target, _ = self.server.accept()
        target.settimeout(5)
        return target

    def pair(self):
        client = self.connect()
        return client, self.accept()


@pytest.fixture
def echo(tmp_path):
    echo = Echo(tmp_path)
    yield echo
    echo.process.terminate()
    assert echo.process.wait(10) == 0


def read_all(end, n):
    got = b""
    while len(got) < n and (more := end.recv(n - len(got))):
        got += more
    return got


def is_silent(end, seconds=0.3):
    end.settimeout(seconds)
    try:
        end.recv(1)
        return False
    except TimeoutError:
        return True
    finally:
        end.settimeout(5)


def test_the_proxy_passes_bytes_and_ends_on(echo):
    client, target = echo.pair()
    much = bytes(range(256)) * 4096
    client.sendall(much[:200000])
    assert read_all(target, 200000) == much[:200000]
    target.sendall(b"answer")
    assert read_all(client, 6) == b"answer"
    client.shutdown(socket.SHUT_WR)
    assert target.recv(1) == b""
    target.sendall(b"still")
    assert read_all(client, 5) == b"still"
    target.close()
    assert client.recv(1) == b""
    assert echo.proxy.tell("stats", "x")[0] == 1
    wait_for("no connection", lambda: echo.proxy.tell("stats", "x")[1:] == [0, 200000, 11])


def test_the_proxy_cuts_behind_the_byte_that_it_was_told(echo):
    client, target = echo.pair()
    echo.proxy.tell("cut", "x", 1234)
    client.sendall(bytes(5000))
    assert len(read_all(target, 5000)) == 1234
    other, _ = echo.pair()
    other.sendall(b"goes on")


def test_the_proxy_resets(echo):
    client, target = echo.pair()
    client.sendall(b"x")
    assert target.recv(1) == b"x"
    echo.proxy.tell("reset", "x")
    for end in (client, target):
        with pytest.raises(ConnectionResetError):
            end.recv(1)
    echo.proxy.tell("refuse", "x")
    refused = echo.connect()
    with pytest.raises(ConnectionResetError):
        refused.recv(1)


@pytest.mark.parametrize("way, up, down", [("up", False, True), ("down", True, False), ("both", False, False)])
def test_the_proxy_is_a_black_hole_until_it_heals(echo, way, up, down):
    client, target = echo.pair()
    echo.proxy.tell("hole", "x", way)
    client.sendall(b"u")
    target.sendall(b"d")
    assert is_silent(target) != up
    assert is_silent(client) != down
    late = echo.connect()
    late.sendall(b"late")
    echo.proxy.tell("heal", "x")
    if not up:
        assert target.recv(1) == b"u"
    if not down:
        assert client.recv(1) == b"d"
    assert read_all(echo.accept(), 4) == b"late"


def test_the_proxy_leaves_a_connection_half_open(echo):
    client, target = echo.pair()
    echo.proxy.tell("half", "x")
    assert target.recv(1) == b""
    client.sendall(b"to nobody")
    assert is_silent(client)
    other, other_target = echo.pair()
    other.sendall(b"new")
    assert read_all(other_target, 3) == b"new"
    echo.proxy.tell("heal", "x")
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_the_proxy_delays_and_slows(echo):
    client, target = echo.pair()
    echo.proxy.tell("delay", "x", 200)
    begin = time.monotonic()
    client.sendall(b"a")
    assert target.recv(1) == b"a"
    assert time.monotonic() - begin >= 0.19
    echo.proxy.tell("heal", "x")
    echo.proxy.tell("bandwidth", "x", 100000)
    begin = time.monotonic()
    client.sendall(bytes(50000))
    assert len(read_all(target, 50000)) == 50000
    assert time.monotonic() - begin >= 0.4


def test_the_proxy_refuses_what_it_does_not_know(echo):
    for words in (("fly", "x"), ("reset", "nobody"), ("delay", "x"), ("link", "y", "0", "nowhere")):
        with pytest.raises(Trouble):
            echo.proxy.tell(*words)
