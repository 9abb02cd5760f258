"""A worker's steps at the batch APIs, ordered by hand: a coordinator that is this test, the real worker, and
the provider simulator with its faults."""
import time

import msgpack
import pytest
import zmq

from conftest import RELEASE_BIN, Box, Simulator, Worker, ask_simulator
from wire import NAMES, frame

PLACES = {"openai": "/v1", "azure-openai": "/openai/v1", "anthropic": "/v1", "gemini": "/v1beta"}
PROVIDERS = list(PLACES)
INLINE = {"anthropic", "gemini"}
MODEL = """CREATE MODEL tag INPUT (text STRING) OUTPUT (tag STRING)
WITH ('provider' = '%s', 'endpoint' = 'http://127.0.0.1:%d%s', 'model' = 'a-model', 'api_key' = '${OPENAI_API_KEY}',
      'batch.size' = '%d', 'structured.output' = 'required'%s);"""


class Hand:
    """A coordinator by hand: a ROUTER socket and one worker."""

    def __init__(self, box, provider, simulator, size, more=""):
        self.socket = zmq.Context.instance().socket(zmq.ROUTER)
        self.socket.linger = 0
        port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"tcp://127.0.0.1:{port}"
        if provider == "anthropic":
            more += ", 'max.tokens' = '512'"
        self.sql = MODEL % (provider, simulator.port, PLACES[provider], size, more)
        self.step = 0
        self.worker = Worker(box, self)
        self.peer = None
        hello = self.hear("HELLO")
        assert hello["worker"] == "worker"
        self.say("WELCOME", coordinator="hand", heartbeat_ms=1000)

    def say(self, name, /, **fields):
        self.socket.send_multipart([self.peer, frame(name, **fields)])

    def hear(self, *names, seconds=60):
        """The next message of these kinds; what is asked in between is answered."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not self.socket.poll(left * 1000):
                break
            self.peer, got = self.socket.recv_multipart()
            name, fields = NAMES[got[3]], msgpack.unpackb(got[4:])
            if name == "MODEL_GET":
                self.say("MODEL", model=fields["model"], revision=fields["revision"], sql=self.sql)
            elif name == "PING":
                self.say("PONG", time=fields.get("time", 0))
            elif name in names:
                return fields if len(names) == 1 else (name, fields)
        raise AssertionError(f"none of {names} in {seconds} s\n{self.worker.log[-2000:]}")

    def order(self, order, lines=None, ahead=4, n_lines=0, **more):
        """Orders a step; returns its JOB_DONE, its answers, and how many lines were sent."""
        self.step += 1
        self.say("JOB", job=5, step=self.step, order=order, model="tag", revision=1, name="hr-test-5",
                 lines=n_lines, **more)
        answers, sent, total = [], 0, len(lines or [])

        def send():
            nonlocal sent
            part = lines[sent:sent + 50]
            self.say("JOB_LINES", job=5, step=self.step, first=sent, count=len(part), lines=b"".join(part),
                     last=sent + len(part) == total)
            sent += len(part)

        for _ in range(ahead if lines else 0):
            if sent < total:
                send()
        while True:
            name, m = self.hear("JOB_GOT", "JOB_ANSWERS", "JOB_DONE")
            if m["step"] != self.step:
                continue
            if name == "JOB_GOT" and sent < total:
                send()
            elif name == "JOB_ANSWERS":
                unpacker = msgpack.Unpacker()
                unpacker.feed(m["reports"])
                answers += [msgpack.unpackb(report[4:]) for report in unpacker]
                self.say("JOB_TAKEN", job=5, step=self.step, upto=m["first"] + m["count"])
            elif name == "JOB_DONE":
                return m, answers

    def until(self, ends, **more):
        """Polls until the state is one of these."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            done, _ = self.order("poll", **more)
            if done.get("state") in ends:
                return done
            assert done.get("state") == "running" or done["outcome"] != "ok", done
            time.sleep(0.02)
        raise AssertionError(f"never {ends}: {done}")

    def make(self, lines, upload=True):
        """From lines to a job at the provider; returns file and id."""
        file = ""
        if upload:
            done, _ = self.order("upload", lines)
            assert done["outcome"] == "ok", done
            file = done["file"]
        done, _ = self.order("create", None if file else lines, file=file, n_lines=len(lines))
        assert (done["outcome"], done["state"]) == ("ok", "running"), done
        return file, done["id"]

    def close(self):
        self.worker.stop()
        self.socket.close()


@pytest.fixture
def hand(box):
    hands = []

    def make(*args, **how):
        hands.append(Hand(box, *args, **how))
        return hands[-1]
    yield make
    for one in hands:
        one.close()


def name_of(number, count):
    return f"hr1-{number:032x}-{count}"


def line_of(number, texts):
    records = b"".join(msgpack.packb([i, msgpack.packb([text])], use_bin_type=True) for i, text in enumerate(texts))
    return msgpack.packb([name_of(number, len(texts)), len(texts), records, b""], use_bin_type=True)


def texts_of(number, count):
    return [f"record {number} of {i}" for i in range(count)]


def items_of(report):
    """Slot to value, or to the outcome's name."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(report.get("items", b""))
    return {slot: msgpack.unpackb(payload)[0] if outcome == "ok" else outcome for slot, outcome, payload in unpacker}


def check_answers(box, answers, numbers, count):
    """Each line has its own right answer, once."""
    got = {a["line"]: items_of(a) for a in answers}
    assert len(got) == len(answers) == len(numbers), answers[0]
    assert all(a["outcome"] == "ok" for a in answers), answers[0]
    want = ask_simulator(box, "--hash", [t for n in numbers for t in texts_of(n, count)])
    for i, n in enumerate(numbers):
        assert got[name_of(n, count)] == {s: f"h:{want[i * count + s]}" for s in range(count)}


def rows(simulator):
    """What the ledger says was billed, a line of it each."""
    return [line for line in simulator.calls() if line.get("batch", {}).get("op") == "row" and line["input_tokens"] > 0]


QUICK = ("--batch-time", "100ms", "--batch-fault", "shuffle=100%", "--batch-states", "mixed")


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("provider_name", PROVIDERS)
def test_the_life_of_a_job(box, provider, hand, provider_name, count):
    simulator = provider(*QUICK)
    h = hand(provider_name, simulator, 20 if count > 1 else 1)
    lines = [line_of(n, texts_of(n, count)) for n in range(120)]
    file, id = h.make(lines, upload=provider_name != "anthropic")
    found, _ = h.order("find", n_lines=len(lines), since=int(time.time() * 1000) - 120000)
    assert (found["outcome"], found["id"]) == ("ok", id), found
    h.until(["ended"], id=id)
    done, answers = h.order("collect", id=id)
    assert (done["outcome"], done["state"], done["answers"]) == ("ok", "ended", 120), done
    check_answers(box, answers, range(120), count)
    assert all(a["usage_known"] and a["input_tokens"] > 0 and a["output_tokens"] > 0 for a in answers)
    again, rest = h.order("collect", id=id, skip=100)
    assert (again["answers"], [a["line"] for a in rest]) == (120, [a["line"] for a in answers[100:]])
    assert len(rows(simulator)) == 120
    done, _ = h.order("delete", id=id, file=file)
    assert done["outcome"] == "ok", done
    done, _ = h.order("delete", id=id, file=file)
    assert done["outcome"] == "ok", done


@pytest.mark.parametrize("provider_name", ["gemini"])
def test_lines_that_go_with_the_request(box, provider, hand, provider_name):
    h = hand(provider_name, provider(*QUICK), 20)
    lines = [line_of(n, texts_of(n, 5)) for n in range(60)]
    _, id = h.make(lines, upload=False)
    h.until(["ended"], id=id)
    done, answers = h.order("collect", id=id)
    assert (done["outcome"], done["answers"]) == ("ok", 60), done
    check_answers(box, answers, range(60), 5)


# What goes wrong at the provider: fault, order at which it is seen, (outcomes, state, sent)
STEP_FAULTS = [
    ("upload-lost", "upload", ({"broken-answer"}, "", True)),
    ("upload-500", "upload", ({"transient"}, "", True)),
    ("upload-429", "upload", ({"rate-limited"}, "", False)),
    ("upload-html", "upload", ({"transient"}, "", True)),
    ("create-lost", "create", ({"broken-answer"}, "", True)),
    ("create-429", "create", ({"rate-limited"}, "", False)),
    ("create-500", "create", ({"transient"}, "", True)),
    ("create-500-made", "create", ({"transient"}, "", True)),
    ("create-html", "create", ({"transient"}, "", True)),
    ("create-html-made", "create", ({"transient"}, "", True)),
    ("poll-500", "poll", ({"transient"}, "", None)),
    ("poll-429", "poll", ({"rate-limited"}, "", None)),
    ("poll-html", "poll", ({"transient"}, "", None)),
    ("poll-reset", "poll", ({"broken-answer"}, "", None)),
    ("cancel-500", "cancel", ({"transient"}, "", None)),
    ("cancel-lost", "cancel", ({"broken-answer"}, "", None)),
    ("remove-500", "delete", ({"transient"}, "", None)),
]


@pytest.mark.parametrize("provider_name", PROVIDERS)
def test_steps_that_fail_say_what_is_known_and_can_be_taken_again(box, provider, hand, provider_name):
    """Each fault strikes once; the same step again goes well, or finds what was made."""
    lines = [line_of(n, texts_of(n, 2)) for n in range(10)]
    for fault, order, (outcomes, state, sent) in STEP_FAULTS:
        if order == "upload" and provider_name == "anthropic":
            continue
        simulator = provider(*QUICK, "--batch-fault", f"{fault}=100%*1")
        h = hand(provider_name, simulator, 20)
        uploads = provider_name not in INLINE
        file = id = ""
        what = {}
        if uploads or order == "upload":
            what = {"lines": lines}
            if order != "upload":
                file = h.order("upload", lines)[0]["file"]
                what = {"file": file}
        elif order == "create":
            what = {"lines": lines}
        if order not in ("upload", "create"):
            _, id = h.make(lines, upload=uploads)
            what = {"id": id}
        if order == "delete":
            h.until(["ended"], id=id)
        done, _ = h.order(order, n_lines=len(lines), **what)
        if fault == "poll-reset" and done["outcome"] == "ok":
            h.close()  # curl asks once more by itself when a connection that it used before is reset
            continue
        got = (done["outcome"] in outcomes, done.get("state", ""), done.get("sent", False) if sent is not None else None)
        assert got == (True, state, sent), (fault, done)
        if done["outcome"] == "rate-limited":
            assert done["retry_after_ms"] > 0
        if order == "create":
            found, _ = h.order("find", n_lines=len(lines), since=int(time.time() * 1000) - 120000)
            assert bool(found.get("id")) == (fault in ("create-lost", "create-500-made", "create-html-made")), (fault, found)
        else:
            done, _ = h.order(order, n_lines=len(lines), **what)
            assert done["outcome"] == "ok", (fault, done)
        h.close()
        simulator.stop()
        h.worker.name = fault  # its log is kept apart


# What becomes of a job: fault, ends that may be seen, answers that there must be of 100 lines
ENDS = [
    ("expire", {"expired"}, {"openai": 60, "azure-openai": 60, "anthropic": 60, "gemini": 0}),
    ("cancelled", {"cancelled"}, None),
    ("vanish", {"gone"}, None),
    ("vanish-ended", {"gone"}, None),
    ("fail-line", {"failed"}, None),
    ("fail", {"failed"}, None),
    ("no-files", {"ended"}, {"openai": 0, "azure-openai": 0, "anthropic": 0, "gemini": 0}),
]


@pytest.mark.parametrize("fault,states,answers_of", ENDS)
@pytest.mark.parametrize("provider_name", PROVIDERS)
def test_how_a_job_ends(box, provider, hand, provider_name, fault, states, answers_of):
    if fault.startswith("fail") and provider_name == "anthropic":
        pytest.skip("it has no such state")
    simulator = provider("--batch-time", "100ms", "--batch-fault", f"{fault}=100%", "--batch-fail-line", "7")
    h = hand(provider_name, simulator, 20)
    lines = [line_of(n, texts_of(n, 2)) for n in range(100)]
    _, id = h.make(lines, upload=provider_name not in INLINE)
    done = h.until(states, id=id)
    if fault == "fail-line" and provider_name != "gemini":
        assert done["bad_line"] == 7, done
    done, answers = h.order("collect", id=id)
    assert done["outcome"] == "ok" and done["state"] in states | ({"gone"} if fault == "no-files" else set()), done
    good = [a for a in answers if a["outcome"] == "ok"]
    rest = [a for a in answers if a["outcome"] != "ok"]
    assert all(a["outcome"] == "unsent" and not a.get("sent") and not a.get("usage_known") for a in rest), rest[:3]
    assert len({a["line"] for a in answers}) == len(answers)
    if answers_of is not None:
        assert len(good) == answers_of[provider_name], (done, len(good), len(rest))


@pytest.mark.parametrize("provider_name", PROVIDERS)
def test_rows_that_are_odd(box, provider, hand, provider_name):
    """Rows missing, twice, of nobody, cut, and with errors: what can be read is, and nothing else."""
    faults = ("row-missing=5%", "row-twice=5%", "row-error=5%", "row-timeout=5%", "row-strange=5%", "row-broken=5%")
    simulator = provider(*QUICK, *(a for f in faults for a in ("--batch-fault", f)))
    h = hand(provider_name, simulator, 20)
    _, id = h.make([line_of(n, texts_of(n, 2)) for n in range(300)], upload=provider_name not in INLINE)
    h.until(["ended", "expired"], id=id)
    done, answers = h.order("collect", id=id)
    assert done["outcome"] == "ok" and done["answers"] == len(answers) and 0 < len(answers) < 330, done
    outcomes = {a["outcome"] for a in answers}
    assert "ok" in outcomes and outcomes <= {"ok", "unsent", "transient"}, outcomes
    good = {a["line"]: a for a in answers if a["outcome"] == "ok"}
    ours = [n for n in range(300) if name_of(n, 2) in good]
    check_answers(box, [good[name_of(n, 2)] for n in ours], ours, 2)


@pytest.mark.parametrize("fault,outcome", [("download-cut", "broken-answer"), ("download-500", "transient"),
                                           ("download-html", "transient")])
@pytest.mark.parametrize("provider_name", PROVIDERS)
def test_a_download_that_fails_is_taken_again(box, provider, hand, provider_name, fault, outcome):
    h = hand(provider_name, provider(*QUICK, "--batch-fault", f"{fault}=100%*1"), 20)
    _, id = h.make([line_of(n, texts_of(n, 5)) for n in range(50)], upload=provider_name != "anthropic")
    h.until(["ended"], id=id)
    done, answers = h.order("collect", id=id)
    assert (done["outcome"], answers) == (outcome, []), done
    done, answers = h.order("collect", id=id)
    assert done["outcome"] == "ok"
    check_answers(box, answers, range(50), 5)


@pytest.mark.skipif(not (RELEASE_BIN / "headrace-worker").exists(), reason="no release build")
def test_memory_is_flat_however_long_a_job_is(box):
    """The worker's memory while it writes and reads a job twenty times as long as another is the same."""
    (box.path / "release").mkdir()
    release = Box(box.path / "release", RELEASE_BIN)
    simulator = Simulator(release, "--batch-time", "100ms")
    h = Hand(release, "openai", simulator, 20)
    peaks = []
    for n_lines in (200, 4000):
        text = "x" * 4000
        lines = [line_of(n, [f"{n} {i} {text}" for i in range(2)]) for n in range(n_lines)]
        _, id = h.make(lines)
        h.until(["ended"], id=id)
        done, answers = h.order("collect", id=id)
        assert (done["outcome"], len(answers)) == ("ok", n_lines)
        peaks.append(int(open(f"/proc/{h.worker.pid}/status").read().split("VmHWM:")[1].split()[0]))
    h.close()
    release.end()
    assert peaks[1] - peaks[0] < 16 * 1024, peaks  # kB; the longer file alone is 32 MB
