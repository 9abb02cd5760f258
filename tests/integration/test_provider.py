"""The provider simulator through its front door: answers, faults, ledger, errors, latency."""
import http.client
import json
import socket
import subprocess
import time

import pytest

ASK = 'Return JSON array: [{"index": <n>, "sentiment": "<positive|negative|neutral>"}]\n\n'
TEXTS = ["Great case.", "Awful sound.", "A phone.", "I love it", "Worst purchase ever"]
RIGHT = ["positive", "negative", "neutral", "positive", "negative"]


def body(texts=TEXTS, **more):
    slots = "\n".join(json.dumps({"index": i + 1, "text": t}) for i, t in enumerate(texts))
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": ASK + slots}], **more})


def post(provider, text=None, key="k", timeout=10, path="/v1/chat/completions"):
    c = http.client.HTTPConnection("127.0.0.1", provider.port, timeout=timeout)
    try:
        c.request("POST", path, text or body(), {"Authorization": "Bearer " + key})
        r = c.getresponse()
        return r.status, dict(r.getheaders()), r.read()
    finally:
        c.close()


def message(provider, **more):
    status, _, raw = post(provider, **more)
    assert status == 200
    choice = json.loads(raw)["choices"][0]
    return choice["finish_reason"], choice["message"]


def ledger(provider):
    provider.stop()
    return [json.loads(line) for line in provider.ledger.read_text().splitlines()]


def test_every_record_gets_its_answer_and_a_line_in_the_ledger(provider, bin_dir):
    p = provider()
    finish, said = message(p)
    assert finish == "stop"
    assert json.loads(said["content"]) == [
        {"index": i + 1, "sentiment": s} for i, s in enumerate(RIGHT)]
    own = subprocess.run([bin_dir / "headrace-provider", "--answer", "-"], text=True,
                         input="\n".join(TEXTS), capture_output=True, check=True)
    assert own.stdout.split() == RIGHT
    hashes = subprocess.run([bin_dir / "headrace-provider", "--hash", "-"], text=True,
                            input="\n".join(TEXTS), capture_output=True, check=True)
    (line,) = ledger(p)
    assert line["records"] == hashes.stdout.split()
    assert line["indices"] == line["answered"] == [1, 2, 3, 4, 5]
    assert (line["items"], line["status"], line["fault"]) == (5, 200, None)
    assert line["complete"] and line["sent"] == line["of"] > 0
    assert line["input_tokens"] > 0 and line["output_tokens"] > 0


def test_two_runs_of_one_seed_are_equal_byte_for_byte(provider):
    args = ("--seed", "7", "--fault", "missing=0.3", "--fault", "shifted=0.3", "--fault", "500=0.2")
    runs = []
    for _ in range(2):
        p = provider(*args)
        runs.append([(s, b) for s, _, b in (post(p) for _ in range(30))])
    assert runs[0] == runs[1]
    assert len({status for status, _ in runs[0]}) == 2


def indices(said):
    return [item["index"] for item in json.loads(said["content"])]


FAULTS = {
    "missing": lambda f, m: len(indices(m)) == 4,
    "duplicate": lambda f, m: len(indices(m)) == 5 and len(set(indices(m))) == 4,
    "shifted": lambda f, m: indices(m) == [0, 1, 2, 3, 4],
    "out-of-range": lambda f, m: max(indices(m)) > 5,
    "fenced": lambda f, m: m["content"].startswith("```json\n") and m["content"].endswith("```"),
    "prose": lambda f, m: m["content"].startswith("Sure!") and '[{"index":1' in m["content"],
    "truncated": lambda f, m: f == "stop" and not m["content"].endswith("]"),
    "length": lambda f, m: f == "length" and not m["content"].endswith("]"),
    "empty": lambda f, m: f == "stop" and m["content"] == "",
    "wrong-type": lambda f, m: sum(not isinstance(i["sentiment"], str)
                                   for i in json.loads(m["content"])) == 1,
    "filter": lambda f, m: f == "content_filter",
    "refusal": lambda f, m: m["content"] is None and m["refusal"],
    "slow": lambda f, m: len(indices(m)) == 5,
}


@pytest.mark.parametrize("kind", FAULTS)
def test_an_answer_is_spoiled_as_asked(provider, kind):
    p = provider("--fault", kind + "=1")
    assert FAULTS[kind](*message(p))
    (line,) = ledger(p)
    assert line["fault"] == kind


def test_a_malformed_answer_is_not_json(provider):
    _, said = message(provider("--fault", "malformed=1"))
    with pytest.raises(ValueError):
        json.loads(said["content"])


@pytest.mark.parametrize("kind,status,delay", [
    ("400", 400, False), ("401", 401, False), ("500", 500, False), ("503", 503, False),
    ("429", 429, True), ("429-no-delay", 429, False), ("html", 502, False)])
def test_a_status_comes_as_asked(provider, kind, status, delay):
    p = provider("--fault", kind + "=100%")
    got, headers, raw = post(p)
    assert got == status
    assert ("retry-after" in {h.lower() for h in headers}) == delay
    assert raw.startswith(b"<html>") if kind == "html" else json.loads(raw)["error"]["message"]
    (line,) = ledger(p)
    assert line["status"] == status and line["answered"] == [] and line["output_tokens"] == 0


def test_a_reset_is_a_reset_and_a_hang_hangs(provider):
    p = provider("--fault", "reset=1")
    with pytest.raises(ConnectionResetError):
        post(p)
    p = provider("--fault", "hang=1")
    with pytest.raises(socket.timeout):
        post(p, timeout=0.5)
    (line,) = ledger(p)
    assert not line["complete"] and line["sent"] == 0


def test_a_cut_answer_was_paid_but_not_delivered(provider):
    p = provider("--fault", "cut=1")
    with pytest.raises(http.client.IncompleteRead):
        post(p)
    (line,) = ledger(p)
    assert 0 < line["sent"] < line["of"] and not line["complete"] and line["output_tokens"] > 0


def test_a_client_that_leaves_is_in_the_ledger(provider):
    p = provider("--latency-ms", "600")
    with pytest.raises(socket.timeout):
        post(p, timeout=0.2)
    post(p)
    lines = ledger(p)
    assert sorted(line["complete"] for line in lines) == [False, True]


def test_latency_is_at_least_what_was_asked(provider):
    p = provider("--latency-ms", "50", "--latency-per-item-ms", "20")
    began = time.monotonic()
    message(p)
    assert time.monotonic() - began >= 0.15


def test_a_wrong_key_and_a_long_prompt_are_refused(provider):
    p = provider("--api-key", "right", "--max-context-tokens", "100")
    status, _, raw = post(p)
    assert (status, json.loads(raw)["error"]["code"]) == (401, "invalid_api_key")
    status, _, raw = post(p, key="right", text=body(["x" * 1000]))
    assert (status, json.loads(raw)["error"]["code"]) == (400, "context_length_exceeded")
    assert post(p, key="right", text=body(["x"]))[0] == 200
    assert [line["status"] for line in ledger(p)] == [401, 400, 200]
    assert "right" not in p.ledger.read_text()


def test_poison_spoils_only_its_prompt(provider):
    p = provider("--poison", "BOOM")
    assert post(p, text=body(["fine", "BOOM"]))[0] == 400
    assert post(p, text=body(["fine"]))[0] == 200


def test_what_is_no_request_is_refused(provider):
    p = provider()
    assert post(p, text="{")[0] == 400
    assert post(p, path="/v1/nothing")[0] == 404


@pytest.mark.parametrize("args", [("--fault", "nonsense=1"), ("--fault", "500=2"),
                                  ("--bind", "nowhere")])
def test_a_bad_option_ends_with_a_sentence(bin_dir, args):
    r = subprocess.run([bin_dir / "headrace-provider", *args], capture_output=True, text=True,
                       timeout=20)
    assert r.returncode != 0 and "got" in r.stderr
