"""A cluster of real processes with a fault proxy between all of them; every event is written down.

              producers ─┐                        ┌─ worker-1 ─┐
                         ├─▶ link ▶ coordinator ◀─┤  link each ├─▶ link ▶ provider simulator, ledger
              consumer  ─┘             │ link     └─ worker-N ─┘
                                     Redis (append-only file, fsync always)

Processes are ended by their ids, never by name. Times are Unix milliseconds, as in the ledger.
"""
import json
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from ports import free_port

PEERS = pathlib.Path(__file__).resolve().parent / "peers.py"
MODEL = """CREATE MODEL tag INPUT (text STRING) OUTPUT (tag STRING)
WITH ('provider' = 'openai', 'endpoint' = 'http://127.0.0.1:%d/v1/chat/completions', 'model' = 'gpt-5.4-mini',
      'api_key' = '${OPENAI_API_KEY}', 'batch.size' = '%d', 'batch.timeout.ms' = '%d', 'max.retries' = '100',
      'ambiguous.retries' = '100', 'worker.lost.ms' = '%d', 'request.timeout.ms' = '%d',
      'on.error' = 'dead-letter');
"""


class Trouble(Exception):
    """The cluster did not do what it must."""


def now_ms():
    return time.time() * 1000


def wait_for(what, condition, seconds=30, interval=0.02):
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise Trouble(f"waited {seconds} s for: {what}")
        time.sleep(interval)
    return value


class Proxy:
    """The fault proxy, and its control socket."""

    def __init__(self, process, path):
        self.process, self.ports = process, {}
        wait_for("the proxy's socket", path.exists)
        self.socket = socket.socket(socket.AF_UNIX)
        wait_for("the proxy", lambda: self.socket.connect_ex(str(path)) == 0)
        self.lines = self.socket.makefile("rw", newline="\n")

    def tell(self, *words):
        self.lines.write(" ".join(map(str, words)) + "\n")
        self.lines.flush()
        answer = self.lines.readline().split()
        if answer[:1] != ["ok"]:
            raise Trouble(f"proxy: {words}: {' '.join(answer)}")
        return [int(word) for word in answer[1:]]

    def link(self, name, target_port):
        self.ports[name] = self.tell("link", name, 0, f"127.0.0.1:{target_port}")[0]
        return self.ports[name]


class Part:
    """One process of the cluster, over all its lives."""

    def __init__(self, cluster, name, command, env=None):
        self.cluster, self.name, self.command = cluster, name, command
        self.env = env or (lambda life: {})
        self.lives = self.kills = self.stops = 0
        self.process, self.stopped = None, False
        self.log = cluster.path / f"{name}.log"

    def start(self):
        if self.is_running():
            return  # two of one name would be another fault than the one that was meant
        life, self.lives = self.lives, self.lives + 1
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in self.command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.cluster.path, env={**self.cluster.env, **self.env(life)}, start_new_session=True)
        self.stopped = False
        self.cluster.note("start", self.name, life=life)

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9; whoever had ended by itself is not counted."""
        if self.is_running():
            self.process.kill()
            self.kills += 1
        self.process.wait()
        self.cluster.note("kill", self.name, life=self.lives - 1)

    def stop(self):
        if self.is_running():
            self.process.send_signal(signal.SIGSTOP)
            self.stopped = True
            self.stops += 1
            self.cluster.note("stop", self.name)

    def go_on(self):
        if self.stopped:
            self.process.send_signal(signal.SIGCONT)
            self.stopped = False
            self.cluster.note("go-on", self.name)

    def end(self):
        if self.is_running():
            self.go_on()
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                self.cluster.faults_found.append(f"{self.name} did not end on SIGTERM")


class Cluster:
    """Parts by name in `parts`: redis, coordinator, worker-K, producer-K, consumer, provider, proxy."""

    def __init__(self, path, bin_folder, seed=1, workers=3, producers=2, partitions=4, rate=1000, total=0,
                 latency=20, faults=(), lost_ms=2000, timeout_ms=15000, die_rate=0.0, coordinator=(),
                 fsync="always", redis=(), batch=(20, 200), poison=(), env=None, worker_env=None,
                 producer_env=None):
        """batch: most records of a batch, and its age in ms. poison: (producer, sequence) of records that the
        provider refuses. env: more environment of the coordinator, a function of its life, counted from 0;
        worker_env, producer_env: of those, functions of name and life."""
        self.path, self.bin, self.seed, self.partitions = pathlib.Path(path), pathlib.Path(bin_folder), seed, partitions
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "redis").mkdir(exist_ok=True)
        self.reports = self.path / "sanitizers"
        self.reports.mkdir(exist_ok=True)
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.path), "TMPDIR": str(self.path),
                    "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",
                    "ASAN_OPTIONS": f"log_path={self.reports}/asan:detect_leaks=1",
                    "UBSAN_OPTIONS": f"log_path={self.reports}/ubsan:print_stacktrace=1",
                    "LSAN_OPTIONS": f"log_path={self.reports}/lsan"}
        self.events, self.faults_found, self.parts = [], [], {}
        self.counters, self.counting = {}, True
        self.event_file = open(self.path / "events.jsonl", "w")
        self.lost_ms, self.total, self.batch, self.poison = lost_ms, total, batch, tuple(poison)
        self.worker_env = worker_env or (lambda name, life: {})
        self.producer_env = producer_env or (lambda name, life: {})
        self.ledger, self.stop_file = self.path / "ledger", self.path / "stop"
        self.workers = [f"worker-{i}" for i in range(1, workers + 1)]
        self.producers = [f"producer-{i}" for i in range(1, producers + 1)]
        self.rate, self.die_rate = rate / producers, die_rate
        self.redis_port, self.bind_port, self.metrics_port = free_port(), free_port(), free_port()
        try:
            self.start_services(latency, faults, timeout_ms, fsync, redis)
            self.start_coordinator(coordinator, env or (lambda life: {}))
            self.start_peers()
        except BaseException:
            self.end()
            raise

    # ---- Start ------------------------------------------------------------------------------------------

    def add(self, name, command, **how):
        part = self.parts[name] = Part(self, name, command, **how)
        part.start()
        return part

    def start_services(self, latency, faults, timeout_ms, fsync, redis):
        self.synced_file = self.path / "synced"
        shim = self.bin.parent / "libsynced.so"
        shim = shim if shim.exists() else None
        self.has_power_cut = shim is not None
        self.clock_file = self.path / "clock"
        self.clock_file.write_bytes(struct.pack("=q", 0))
        shimmed = {"LD_PRELOAD": str(shim), "HEADRACE_SYNCED_FILE": str(self.synced_file),
                   "HEADRACE_CLOCK_FILE": str(self.clock_file)} if shim else {}
        self.add("redis", ["redis-server", "--port", self.redis_port, "--bind", "127.0.0.1", "--dir",
                           self.path / "redis", "--appendonly", "yes", "--appendfsync", fsync, "--save", "",
                           "--maxmemory-policy", "noeviction", "--enable-debug-command", "local", *redis],
                 env=lambda life: shimmed)
        self.wait_redis()
        port_file = self.path / "provider.port"
        self.add("provider", [self.bin / "headrace-provider", "--bind", "127.0.0.1:0", "--port-file", port_file,
                              "--ledger", self.ledger, "--seed", self.seed, "--latency-ms", latency,
                              "--latency-jitter-ms", latency, "--retry-after-ms", 300,
                              *[word for fault in faults for word in ("--fault", fault)],
                              *[word for name, seq in self.poison
                                for word in ("--poison", f"record {seq} of {name},")]])
        wait_for("the simulator's port", lambda: port_file.exists() and port_file.read_text().strip())
        control = self.path / "proxy.sock"
        self.proxy = Proxy(self.add("proxy", [self.bin / "headrace-faultproxy", control]), control)
        self.proxy.link("redis", self.redis_port)
        self.proxy.link("provider", int(port_file.read_text()))
        for name in [*self.workers, *self.producers, "consumer"]:
            self.proxy.link(name, self.bind_port)
        self.models = self.path / "models.sql"
        self.models.write_text(MODEL % (self.proxy.ports["provider"], *self.batch, self.lost_ms, timeout_ms))

    def start_coordinator(self, more, env):
        self.add("coordinator", [
            self.bin / "headrace-coordinator", "--bind", f"tcp://127.0.0.1:{self.bind_port}", "--redis",
            f"redis://127.0.0.1:{self.proxy.ports['redis']}", "--namespace", "chaos", "--partitions",
            self.partitions, "--name", "c1", "--log-level", "debug", "--models", self.models, "--model", "tag", "--metrics",
            f"127.0.0.1:{self.metrics_port}", *more], env=env)
        wait_for("the coordinator", lambda: self.get_health() or not self.parts["coordinator"].is_running(), 60)
        threading.Thread(target=self.count, daemon=True).start()

    def start_peers(self):
        def address(name):
            return f"tcp://127.0.0.1:{self.proxy.ports[name]}"
        for name in self.workers:
            self.add(name, [self.bin / "headrace-worker", "--coordinator", address(name), "--name", name,
                            "--drain-timeout", "5s"],
                     env=lambda life, name=name: {"OPENAI_API_KEY": self.key(name, life),
                                                    **self.worker_env(name, life)})
        self.add("consumer", [sys.executable, PEERS, "consumer", address("consumer"), "tester", self.seed,
                              self.path / "used", self.die_rate])
        start = time.time()
        for name in self.producers:
            self.add(name, [sys.executable, PEERS, "producer", address(name), name, self.seed,
                            self.path / f"{name}.sent", self.rate, start, self.total // len(self.producers),
                            self.stop_file], env=lambda life, name=name: self.producer_env(name, life))

    @staticmethod
    def key(worker, life):
        """Each life of a worker has a credential of its own, so that the ledger says who called."""
        return f"key-of-{worker}-{life}"

    # ---- Looking ----------------------------------------------------------------------------------------

    def note(self, what, name, **more):
        event = {"ms": now_ms(), "what": what, "name": name, **more}
        self.events.append(event)
        self.event_file.write(json.dumps(event) + "\n")
        self.event_file.flush()

    def redis(self, *words, seconds=5):
        """One command straight to Redis, not over the proxy; returns redis-cli's text."""
        done = subprocess.run(["redis-cli", "-p", str(self.redis_port), *map(str, words)], capture_output=True,
                              text=True, timeout=seconds, env=self.env)
        return done.stdout.strip()

    def wait_redis(self):
        def is_there():
            try:
                return self.redis("PING") == "PONG"
            except subprocess.TimeoutExpired:
                return False
        wait_for("Redis", is_there, 60, 0.05)

    def get_health(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/health", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def wait_open(self):
        wait_for("the coordinator", self.get_health, 60)

    def count(self):
        """Keeps the newest counters of each life of the coordinator."""
        while self.counting:
            self.count_once()
            time.sleep(0.1)

    def count_once(self):
        life = self.parts["coordinator"].lives
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=1) as answer:
                rows = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[:1] != "#"]
                if life == self.parts["coordinator"].lives:
                    self.counters[life] = {name: float(value) for name, value in rows}
        except (OSError, ValueError):
            pass

    def counted(self, name):
        """A counter of the coordinator over all its lives; what the last tenth of a second of one had is lost."""
        return int(sum(life.get(name, 0) for life in list(self.counters.values())))

    def ambiguous(self):
        """Calls counted as ambiguous, less those whose answers came after all; Redis keeps it over restarts."""
        last = self.counters[max(self.counters)]
        return int(last["headrace_calls_ambiguous_total"] - last["headrace_calls_ambiguous_resolved_total"])

    def gauge(self, name):
        """What the present life of the coordinator said last."""
        return self.counters.get(self.parts["coordinator"].lives, {}).get(name, 0)

    def told(self):
        """How many records each producer may have sent."""
        told = {}
        for name in self.producers:
            path = self.path / f"{name}.sent"
            lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
            told[name] = max([int(line[2:]) for line in lines if line[:2] == b"S "], default=0)
        return told

    def acked(self):
        acked = {}
        for name in self.producers:
            path = self.path / f"{name}.sent"
            lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
            acked[name] = max([int(line[2:]) for line in lines if line[:2] == b"A "], default=0)
        return acked

    def batches_left(self):
        try:
            return sum(int(self.redis("HLEN", f"hr:{{chaos:{p}}}:bat") or -1) for p in range(self.partitions))
        except (ValueError, subprocess.TimeoutExpired):
            return -1

    def n_dead(self):
        try:
            return sum(int(self.redis("XLEN", f"hr:{{chaos:{p}}}:dlq") or 0) for p in range(self.partitions))
        except (ValueError, subprocess.TimeoutExpired):
            return 0

    def headrace(self, *words, seconds=30):
        """The command line, straight at the coordinator; returns its status and what it said."""
        done = subprocess.run([str(self.bin / "headrace"), *map(str, words), "-c",
                               f"tcp://127.0.0.1:{self.bind_port}"], capture_output=True, text=True,
                              timeout=seconds, env=self.env)
        return done.returncode, done.stdout + done.stderr

    def used_files(self):
        return sorted(self.path.glob("used.[0-9]*"), key=lambda path: int(path.suffix[1:] or 0)
                      if path.suffix[1:].isdigit() else -1)

    def n_used(self):
        n = 0
        for path in self.used_files():
            with open(path, "rb") as lines:
                n += sum(line[:1] == b"=" and line.endswith(b"\n") for line in lines)
        return n

    # ---- Faults -----------------------------------------------------------------------------------------

    def fault(self, link, verb, *value):
        self.note("fault", link, verb=verb, value=list(value))
        self.proxy.tell(verb, link, *value)

    def hang(self, name):
        """The loop of a program stands still for a while; the threads of its libraries go on."""
        self.note("pause", name)
        self.parts[name].process.send_signal(signal.SIGUSR1)

    def set_redis_clock(self, seconds):
        """Redis's clock is so much before the true one from now on."""
        self.note("clock", "redis", seconds=seconds)
        with open(self.clock_file, "r+b") as file:  # in place: Redis has it mapped
            file.write(struct.pack("=q", seconds))

    def heal(self, link):
        self.note("heal", link)
        self.proxy.tell("heal", link)

    def cut_power(self):
        """kill -9 of Redis, and the end of its append-only file that no fsync covered is gone."""
        self.parts["redis"].kill()
        synced = {inode: size for inode, size in struct.iter_unpack("=QQ", self.synced_file.read_bytes()) if inode}
        lost = 0
        for file in (self.path / "redis").rglob("*.aof"):
            before = file.stat()
            if before.st_size > synced.get(before.st_ino, before.st_size):
                lost += before.st_size - synced[before.st_ino]
                os.truncate(file, synced[before.st_ino])
        self.note("power-cut", "redis", lost=lost)
        return lost

    def heal_all(self):
        self.heal("*")
        for part in self.parts.values():
            part.go_on()
        redis = self.parts["redis"]
        if not redis.is_running():
            redis.start()
        self.wait_redis()
        for part in self.parts.values():
            if not part.is_running() and not self.is_finished(part):
                part.start()

    def is_finished(self, part):
        return part.name in self.producers and part.process.poll() == 0

    def keep_alive(self):
        """The consumer kills itself at times; whoever else ends by itself is a fault, and starts again."""
        for part in self.parts.values():
            code = part.process.poll()
            if code is None or self.is_finished(part):
                continue
            if code != -signal.SIGKILL:
                self.faults_found.append(f"{part.name} ended with {code}")
                part.start()
            elif part.name == "consumer":
                part.kills += 1
                part.start()

    def finish(self, seconds=90):
        """Faults are over: everything must be done in time. Returns how long it took."""
        begin = time.monotonic()
        self.heal_all()
        self.stop_file.touch()

        def is_done():
            self.keep_alive()
            return all(self.parts[name].process.poll() == 0 for name in self.producers)
        wait_for("the producers' last acks", is_done, seconds, 0.1)
        total = sum(self.told().values())

        def is_used():
            self.keep_alive()
            return self.n_used() + self.n_dead() >= total and self.batches_left() == 0
        wait_for("the last result", is_used, seconds, 0.3)
        took = time.monotonic() - begin
        self.count_once()
        return took

    def end(self):
        self.counting = False
        for part in reversed(list(self.parts.values())):
            part.end()
        self.event_file.close()
        for file in sorted(self.reports.iterdir()):
            self.faults_found.append(f"a sanitizer has found something: {file.read_text(errors='replace')[:3000]}")
