"""Real processes for the tests: each test has a folder and a Box that starts, watches and ends them.

Every program of ours runs under ASan and UBSan with its reports in the test's folder; a report fails
the test, wherever it came from. Children are ended by their process ids, never by name.
"""
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from ports import free_port

BIN = pathlib.Path(os.environ.get("HEADRACE_BIN", ROOT / "build/bin"))
EXAMPLES_BIN = pathlib.Path(os.environ.get("HEADRACE_EXAMPLES", BIN.parent / "examples"))
RELEASE_BIN = pathlib.Path(os.environ.get("HEADRACE_RELEASE_BIN", ROOT / "build/bin"))
EXAMPLES = ROOT / "docs/examples"
LONG = bool(os.environ.get("HEADRACE_LONG"))
SAMPLE = ROOT / "samples/reviews.jsonl"
REVIEWS = ROOT.parent / "shared/data/reviews.jsonl"
KEY = "a-key-that-nobody-may-see"


def wait_for(what, condition, seconds=30, interval=0.02):
    """Waits until condition() is true, and returns what it returned."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s for: {what}")
        time.sleep(interval)


def read_jsonl(path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line] if path.exists() else []


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


class Child:
    """One process, with its standard error in a file."""

    def __init__(self, box, name, args, env=None, stdin=subprocess.DEVNULL, stdout=None):
        self.name, self.box = name, box
        self.log_path = box.path / f"{name}.log"
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [str(a) for a in args], env=env or box.env, stdin=stdin, stdout=stdout or log, stderr=log,
                start_new_session=True, cwd=box.path)
        box.children.append(self)

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        return self.log_path.read_text(errors="replace")

    def is_running(self):
        return self.process.poll() is None

    def wait(self, seconds=60):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.name} did not end in {seconds} s; its log ends with:\n{self.log[-2000:]}")

    def wait_log(self, pattern, seconds=30):
        def look():
            match = re.search(pattern, self.log)
            if match is None and not self.is_running():
                pytest.fail(f"{self.name} ended with {self.process.returncode}:\n{self.log[-2000:]}")
            return match
        return wait_for(f"{pattern} in the log of {self.name}", look, seconds)

    def kill(self):
        """kill -9."""
        if self.is_running():
            self.process.kill()
        self.process.wait()

    def stop(self, seconds=30):
        """SIGTERM; returns the exit status."""
        if self.is_running():
            self.process.terminate()
        return self.wait(seconds)


class Box:
    """The folder of a test and the processes in it."""

    def __init__(self, path, bin_folder=BIN):
        self.path, self.bin = path, bin_folder
        self.reports = path / "sanitizers"
        self.reports.mkdir(parents=True)
        self.children = []
        self.env = {
            "PATH": os.environ["PATH"], "HOME": str(path), "TMPDIR": str(path), "LC_ALL": "C.UTF-8",
            "ASAN_OPTIONS": f"log_path={self.reports}/asan:detect_leaks=1",
            "UBSAN_OPTIONS": f"log_path={self.reports}/ubsan:print_stacktrace=1",
            "LSAN_OPTIONS": f"log_path={self.reports}/lsan",
        }

    def start(self, name, *args, **how):
        return Child(self, name, args, **how)

    def run(self, program, *args, env=None, input=None, seconds=120):
        """Runs a program of ours to its end. The result has returncode, stdout, stderr (bytes)."""
        process = subprocess.Popen(
            [str(self.bin / program), *map(str, args)], env=env or self.env, cwd=self.path,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True)
        try:
            out, err = process.communicate(input, timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"{program} {args} did not end in {seconds} s:\n{err.decode()[-3000:]}")
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def left_over(self):
        """Processes that have this folder in their command line: pids and what they are."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
                except OSError:
                    continue
                if str(self.path) in command and state != "Z":
                    found.append((int(entry.name), command))
        return found

    def end(self):
        """Ends every child, the last first, and fails on a sanitizer's report."""
        hung = []
        for child in reversed(self.children):
            if child.is_running():
                child.process.terminate()
                try:
                    child.process.wait(20)
                except subprocess.TimeoutExpired:
                    hung.append(child.name)
                    child.kill()
        reports = [file.read_text(errors="replace") for file in sorted(self.reports.iterdir())]
        assert not reports, "a sanitizer has found something:\n" + "\n".join(reports)[:6000]
        assert not hung, f"did not end on SIGTERM: {hung}"


class Redis(Child):
    def __init__(self, box):
        self.socket_path = box.path / "redis.sock"
        folder = box.path / "redis"
        folder.mkdir(exist_ok=True)
        super().__init__(box, "redis", [
            "redis-server", "--port", "0", "--unixsocket", self.socket_path, "--dir", folder,
            "--appendonly", "yes", "--appendfsync", "always", "--save", "",
            "--maxmemory-policy", "noeviction"])
        self.wait_log("eady to accept connections")
        self.address = f"unix:{self.socket_path}"


class Simulator(Child):
    """The provider simulator."""

    def __init__(self, box, *options, name="provider", port=0):
        self.ledger = box.path / f"{name}.ledger"
        port_file = box.path / f"{name}.port"
        port_file.unlink(missing_ok=True)
        super().__init__(box, name, [
            box.bin / "headrace-provider", "--bind", f"127.0.0.1:{port}", "--port-file", port_file,
            "--ledger", self.ledger, *options])
        wait_for("the simulator's port", lambda: port_file.exists() and port_file.read_text().strip() or
                 (not self.is_running() and pytest.fail(f"the simulator ended:\n{self.log}")))
        self.port = int(port_file.read_text())
        self.url = f"http://127.0.0.1:{self.port}/v1/chat/completions"

    def calls(self):
        """What the ledger holds by now: one row a request."""
        return read_jsonl(self.ledger)


class Coordinator(Child):
    """A coordinator with all its sockets on 127.0.0.1."""

    def __init__(self, box, redis, *options, name="coordinator", like=None):
        """like: an earlier coordinator whose addresses this one takes over."""
        ports = like.ports if like else [free_port(), free_port(), free_port(), free_port()]
        self.ports, self.options, self.redis = ports, options, redis
        self.address, self.address_in, self.address_out = (f"tcp://127.0.0.1:{p}" for p in ports[:3])
        self.metrics_url = f"http://127.0.0.1:{ports[3]}"
        start = (box.path / f"{name}.log").stat().st_size if like else 0
        super().__init__(box, name, [
            box.bin / "headrace-coordinator", "--bind", self.address, "--bind-in", self.address_in,
            "--bind-out", self.address_out, "--metrics", f"127.0.0.1:{ports[3]}",
            "--redis", redis.address, "--namespace", "test", *options])
        wait_for("coordinator.open", lambda: "coordinator.open" in self.log[start:] or
                 (not self.is_running() and pytest.fail(f"the coordinator ended:\n{self.log[-3000:]}")))

    def again(self):
        """The same coordinator, started again after it was killed."""
        return Coordinator(self.box, self.redis, *self.options, name=self.name, like=self)

    def metrics(self):
        return metrics(self.metrics_url)


class Worker(Child):
    def __init__(self, box, coordinator, *options, name="worker", has_key=True, env=None):
        self.metrics_url = f"http://127.0.0.1:{free_port()}"
        super().__init__(box, name, [
            box.bin / "headrace-worker", "--coordinator", coordinator.address, "--name", name,
            "--metrics", self.metrics_url.removeprefix("http://"), *options],
            env={**box.env, **({"OPENAI_API_KEY": KEY} if has_key else {}), **(env or {})})


def http_get(url):
    """Status and text; status 0 when nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except urllib.error.URLError as error:
        return 0, str(error)


def metrics(url):
    """Prometheus text as {'name{labels}': value}."""
    status, text = http_get(url + "/metrics")
    assert status == 200
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in rows}


def make_models(box, url, name="llm_sentiment", **options):
    """A models file with the sample's model and other values for some options; returns its path."""
    sql = (ROOT / "samples/models.sql").read_text()
    options = {"endpoint": url, **{k.replace("_", "."): v for k, v in options.items()}}
    for option, value in options.items():
        changed, n = re.subn(rf"'{re.escape(option)}' = '[^']*'", lambda _: f"'{option}' = '{value}'", sql)
        sql = changed if n else sql.replace("\n);", f",\n  '{option}' = '{value}'\n);")
    path = box.path / f"{name}.sql"
    path.write_text(sql.replace("MODEL llm_sentiment", f"MODEL {name}"))
    return path


TAG_MODEL = """
CREATE MODEL tag INPUT (text STRING) OUTPUT (tag STRING)
WITH ('provider' = 'openai', 'endpoint' = '%s', 'model' = 'gpt-5.4-mini', 'api_key' = '${OPENAI_API_KEY}',
      'batch.size' = '20', 'batch.timeout.ms' = '200'%s);
"""


def make_tags(box, url, more=""):
    """A model whose answer differs for every text; returns its file's path."""
    path = box.path / "tag.sql"
    path.write_text(TAG_MODEL % (url, more))
    return path


def tags(box, texts):
    """What the tag model's answers must be."""
    return [f"h:{hash}" for hash in ask_simulator(box, "--hash", texts)]


def sentiments(box, texts):
    """What the simulator's own rule says about each text, asked without any prompt."""
    return ask_simulator(box, "--answer", texts)


def ask_simulator(box, option, texts):
    done = subprocess.run([str(box.bin / "headrace-provider"), option, "-"], env=box.env,
                          input="".join(t.replace("\n", " ") + "\n" for t in texts).encode(),
                          stdout=subprocess.PIPE, check=True)
    answers = done.stdout.decode().splitlines()
    assert len(answers) == len(texts)
    return answers


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call":
        item.failed = report.failed


@pytest.fixture
def box(tmp_path, request):
    box = Box(tmp_path / "box")
    yield box
    if getattr(request.node, "failed", True):
        for child in box.children:
            print(f"---- {child.name} ({child.process.returncode}): {child.log_path}\n{child.log[-1500:]}")
    box.end()
    if not getattr(request.node, "failed", True):
        shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def redis(box):
    return Redis(box)


@pytest.fixture(scope="session")
def bin_dir():
    return BIN


@pytest.fixture
def provider(box):
    """provider(*args) starts a simulator; there may be several."""
    names = itertools.count(1)
    return lambda *options: Simulator(box, *options, name=f"provider-{next(names)}")


@pytest.fixture
def simulator(box):
    return Simulator(box)


@pytest.fixture
def models(box, simulator):
    return make_models(box, simulator.url)


@pytest.fixture
def coordinator(box, redis, models):
    return Coordinator(box, redis, "--models", models, "--model", "llm_sentiment")


@pytest.fixture
def workers(box, coordinator):
    return [Worker(box, coordinator, name=f"worker-{i}") for i in range(4)]


@pytest.fixture(scope="session")
def reviews():
    """The sample's rows."""
    return read_jsonl(SAMPLE)
