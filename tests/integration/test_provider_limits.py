"""The provider simulator's limits through its front door: admission, headers, refusals, control."""
import datetime
import http.client
import json
import re
import subprocess

import pytest
from conftest import wait_for


def call(provider, text="hello", key="k", model="m", **more):
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **more})
    c = http.client.HTTPConnection("127.0.0.1", provider.port, timeout=30)
    try:
        c.request("POST", "/v1/chat/completions", body, {"Authorization": "Bearer " + key})
        r = c.getresponse()
        return r.status, {k.lower(): v for k, v in r.getheaders()}, json.loads(r.read())
    finally:
        c.close()


def control(provider, change=None):
    c = http.client.HTTPConnection("127.0.0.1", provider.port, timeout=30)
    try:
        c.request("GET" if change is None else "POST", "/control", change and json.dumps(change))
        r = c.getresponse()
        raw = r.read()
        return r.status, json.loads(raw) if r.status == 200 else raw.decode()
    finally:
        c.close()


def ledger(provider):
    provider.stop()
    return [json.loads(line) for line in provider.ledger.read_text().splitlines()]


@pytest.mark.parametrize("mode", ["bucket", "fixed-window", "sliding-log", "per-second"])
def test_what_goes_over_a_limit_is_refused_in_every_mode(provider, mode):
    p = provider("--limit-mode", mode, "--limit-rpm", "6", "--limit-burst-ms", "60000")
    statuses = [call(p)[0] for _ in range(13)]  # 12: a minute may begin in between
    assert statuses[:6] == [200] * 6 and 429 in statuses[6:]
    lines = ledger(p)
    assert [line["status"] for line in lines] == statuses
    assert [line["admitted"] for line in lines] == [s == 200 for s in statuses]
    assert {line["limited"] for line in lines} == {None, "limit-rpm"}
    assert [line["charged_input"] > 0 for line in lines] == [s == 200 for s in statuses]


def test_two_keys_and_two_models_have_limits_of_their_own(provider):
    p = provider("--limit-rpd", "1")
    assert [call(p, key=k, model=m)[0] for k in "ab" for m in "xy" for _ in range(2)] == [200, 429] * 4
    p = provider("--limit-rpd", "1", "--limit-per", "all")
    assert [call(p, key=k, model=m)[0] for k in "ab" for m in "xy"] == [200, 429, 429, 429]


def test_openai_tells_what_is_left_and_how_long_to_wait(provider):
    p = provider("--limit-rpm", "60", "--limit-tpm", "1000")
    status, headers, body = call(p, max_tokens=900)
    assert (status, headers["x-ratelimit-limit-requests"], headers["x-ratelimit-limit-tokens"]) == (
        200, "60", "1000")
    assert headers["x-ratelimit-remaining-requests"] == "59"
    assert int(headers["x-ratelimit-remaining-tokens"]) == 100 - body["usage"]["prompt_tokens"]
    assert re.fullmatch(r"(\d+ms|1s)", headers["x-ratelimit-reset-requests"])
    assert re.fullmatch(r"\d+(\.\d+)?s", headers["x-ratelimit-reset-tokens"])
    status, headers, body = call(p, max_tokens=900)
    assert (status, body["error"]["code"], body["error"]["type"]) == (429, "rate_limit_exceeded", "tokens")
    assert re.search(r"on tokens per min \(TPM\): Limit 1000, Used \d+, Requested \d+\. "
                     r"Please try again in \d+(\.\d+)?s\.", body["error"]["message"])
    ms = float(headers["retry-after-ms"])
    assert 40000 < ms < 60000 and int(headers["retry-after"]) == -(-ms // 1000)
    status, headers, body = call(p, max_tokens=1000)  # more than fits ever
    assert status == 429 and body["error"]["message"].startswith("Request too large for m ")
    assert "retry-after" not in headers


def test_azure_tells_whole_seconds(provider):
    p = provider("--limit-headers", "azure", "--limit-rpm", "1")
    assert call(p)[1]["x-ratelimit-reset-requests"] == "60"
    status, headers, body = call(p)
    assert (status, body["error"]["code"]) == (429, "429")
    assert re.search(r"Please retry after \d+ seconds", body["error"]["message"])
    assert 0 < int(headers["retry-after"]) <= 60 and "retry-after-ms" in headers


def test_anthropic_tells_four_limits_and_when_they_are_whole(provider):
    p = provider("--limit-headers", "anthropic", "--limit-counts", "used", "--limit-rpm", "60",
                 "--limit-itpm", "30000", "--limit-otpm", "8000")
    status, headers, body = call(p)
    assert status == 200 and headers["request-id"].startswith("req_")
    told = {name: headers[f"anthropic-ratelimit-{name}-remaining"]
            for name in ("requests", "input-tokens", "output-tokens", "tokens")}
    assert told == {"requests": "59", "input-tokens": "30000", "output-tokens": "8000", "tokens": "30000"}
    reset = datetime.datetime.strptime(headers["anthropic-ratelimit-requests-reset"], "%Y-%m-%dT%H:%M:%SZ")
    ahead = reset - datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    assert abs(ahead.total_seconds()) < 20
    status, headers, body = call(p, text="x" * 130000)
    assert (status, body["type"], body["error"]["type"]) == (429, "error", "rate_limit_error")
    assert "retry-after" not in headers and "retry-after-ms" not in headers  # it would never fit


def test_gemini_tells_nothing_but_in_its_refusals(provider):
    p = provider("--limit-headers", "gemini", "--limit-rpm", "1", "--limit-rpd", "2")
    status, headers, _ = call(p)
    assert status == 200 and not any("ratelimit" in name for name in headers)

    def refused():
        status, headers, body = call(p)
        assert (status, body["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
        assert "retry-after" not in headers
        quota, retry = body["error"]["details"]
        return quota["violations"][0]["quotaId"], retry["@type"].split("/")[1], retry["retryDelay"]
    quota, kind, delay = refused()
    assert "PerMinute" in quota and kind == "google.rpc.RetryInfo"
    assert re.fullmatch(r"\d+\.\d{3}s", delay) and 0 < float(delay[:-1]) <= 60
    control(p)  # not there without --control
    p = provider("--limit-headers", "gemini", "--limit-rpd", "1")
    call(p)
    quota, _, _ = refused()
    assert "PerDay" in quota


TROUBLES = [
    ("openai", "overloaded", 503, "overloaded"), ("anthropic", "overloaded", 529, "overloaded_error"),
    ("gemini", "overloaded", 503, "UNAVAILABLE"), ("openai", "quota", 429, "insufficient_quota"),
    ("anthropic", "quota", 400, "You have reached your specified"), ("openai", "slow-down", 503, "Slow Down"),
    ("openai", "billing", 429, "billing_not_active"), ("anthropic", "billing", 402, "billing_error"),
    ("openai", "spend-limit", 429, "billing_hard_limit_reached"),
    ("anthropic", "spend-limit", 429, "enforced_spend_limit_reached"),
    ("gemini", "daily-limit", 429, "PerDay"), ("openai", "daily-limit", 429, "per day"),
    ("anthropic", "auth", 401, "authentication_error"), ("gemini", "auth", 400, "API_KEY_INVALID"),
    ("azure", "auth", 401, "invalid subscription key"), ("openai", "auth", 401, "invalid_api_key"),
    ("anthropic", "no-model", 404, "not_found_error"), ("openai", "permission", 403, "permission"),
]


@pytest.mark.parametrize("style,fault,status,says", TROUBLES)
def test_each_provider_words_its_troubles(provider, style, fault, status, says):
    p = provider("--limit-headers", style, "--fault", fault + "=1", "--limit-rpm", "100")
    got, _, body = call(p)
    assert got == status and says in json.dumps(body)
    (line,) = ledger(p)
    assert line["fault"] == fault and line["admitted"] == (fault in ("overloaded", "slow-down"))


def test_limits_change_while_it_runs(provider):
    p = provider("--control", "--limit-rpm", "600")
    assert call(p)[1]["x-ratelimit-limit-requests"] == "600"
    status, state = control(p, {"limit-rpm": 300, "limit-tpd": 5, "stranger": 0.5})
    assert (status, state["limit-rpm"], state["limit-tpd"], state["stranger"]) == (200, 300, 5, 0.5)
    assert state["pools"][0]["left"]["limit-rpm"] == 300 and state["pools"][0]["admitted"] == 1
    status, headers, body = call(p)
    assert status == 429 and headers["x-ratelimit-limit-requests"] == "300"
    assert "tokens per day" in body["error"]["message"]
    assert control(p, {"limit-rpm": 1, "limit-nonsense": 1})[0] == 400
    assert control(p, {"limit-rpm": -1})[0] == control(p, [])[0] == control(p, {"stranger": 2})[0] == 400
    assert control(p)[1]["limit-rpm"] == 300


def test_a_fault_may_hold_for_a_while(provider):
    p = provider("--control")
    control(p, {"fault": {"overloaded": 1}, "fault-ms": 300})
    assert call(p)[0] == 503
    wait_for("the fault's end", lambda: call(p)[0] == 200, 10)
    assert control(p)[1]["fault"] == {}


def test_used_tokens_are_charged_when_the_answer_is_over(provider):
    p = provider("--control", "--limit-tpd", "100", "--limit-counts", "used")
    statuses = [call(p, max_tokens=100000)[0] for _ in range(100)]
    n = statuses.count(200)
    lines = ledger(p)
    spent = sum(line["charged_input"] + line["charged_output"] for line in lines)
    most = max(line["charged_input"] + line["charged_output"] for line in lines)
    assert statuses == [200] * n + [429] * (100 - n) and 0 < n < 100
    assert 100 - most < spent < 100 + most
    assert all(line["charged_late"] for line in lines if line["admitted"])


def test_a_stranger_spends_its_share(provider):
    p = provider("--control", "--limit-rpm", "60000", "--stranger", "50%")
    call(p)
    wait_for("the stranger", lambda: control(p)[1]["pools"][0]["left"]["limit-rpm"] < 59990, 20)
    call(p)
    lines = ledger(p)
    took_ms = lines[1]["unix_us"] / 1000 - lines[0]["unix_us"] / 1000
    slack_ms = 200 + lines[0]["took_ms"] + lines[1]["took_ms"]
    assert abs(lines[1]["stranger"]["limit-rpm"] - took_ms * 0.5) < slack_ms * 0.5  # 500 a second


def test_requests_at_once_are_limited_for_each_pool(provider):
    p = provider("--limit-concurrency", "1", "--latency-ms", "20000", "--control")
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]})
    c = http.client.HTTPConnection("127.0.0.1", p.port, timeout=30)
    c.request("POST", "/v1/chat/completions", body, {"Authorization": "Bearer k"})
    wait_for("the first", lambda: any(pool["open"] for pool in control(p)[1]["pools"]))
    assert call(p)[0] == 429
    c.close()
    wait_for("its end", lambda: not any(pool["open"] for pool in control(p)[1]["pools"]))


@pytest.mark.parametrize("args", [("--limit-mode", "x"), ("--limit-headers", "x"), ("--limit-counts", "x"),
                                  ("--limit-per", "x"), ("--stranger", "2"), ("--limit-count-refused", "x"),
                                  ("--control", "--bind", "0.0.0.0:0"), ("--limit-rpm", "-1")])
def test_a_bad_option_ends_with_a_sentence(bin_dir, args):
    r = subprocess.run([bin_dir / "headrace-provider", *args], capture_output=True, text=True, timeout=20)
    assert r.returncode != 0 and "got" in r.stderr


def row(at_s, admitted=True, key="a", model="m", tokens=(10, 5), late=False, took_ms=0, **more):
    return json.dumps({
        "unix_us": 1764000000000000 + round(at_s * 1e6), "took_ms": took_ms, "key": key, "model": model,
        "status": 200 if admitted else 429, "admitted": admitted,
        "limited": None if admitted else "limit-rpm", "charged_input": tokens[0] if admitted else 0,
        "charged_output": tokens[1] if admitted else 0, "charged_late": late, **more}) + "\n"


def report(bin_dir, path, *args):
    r = subprocess.run([bin_dir / "headrace-provider", "--report", path, *args], capture_output=True,
                       text=True, timeout=60)
    assert r.returncode == 0, r.stderr
    return r.stdout


def test_a_ledger_says_how_near_its_minutes_came(bin_dir, tmp_path):
    path = tmp_path / "ledger"
    rows = [row(i) for i in range(300)]  # 60 a minute, steadily
    rows += [row(150.5, late=True, took_ms=30000, tokens=(100, 1000))] * 2  # a peak in one minute
    rows += [row(200, admitted=False), row(201, fault="429", status=429, admitted=False, limited=None)]
    rows += [row(7, key="b", stranger={"limit-rpm": 3})]
    rows.reverse()  # lines come in any order
    path.write_text("".join(rows))
    a, b = sorted(map(json.loads, report(bin_dir, path, "--report-json", "--limit-rpm", "61", "--limit-tpm",
                                         "10000").splitlines()), key=lambda pool: pool["key"])
    assert (a["admitted"], a["refused"], a["other_429"], a["seconds"]) == (302, 1, 1, 299.0)
    assert a["limit-rpm"]["peak"] == 62 and abs(a["limit-rpm"]["peak_percent"] - 6200 / 61) < 0.001
    # 180 seconds between second 60 and second 239, and two of second 150.5
    assert abs(a["limit-rpm"]["mean"] - (179 + 2) / 179 * 60) < 0.001
    assert a["limit-tpm"]["peak"] == 60 * 15 + 200 + 2000
    assert a["limit-itpm"]["peak"] == 60 * 10 + 200 and a["limit-otpm"]["peak"] == 60 * 5 + 2000
    assert a["limit-itpm"]["limit"] == 0 and a["limit-itpm"]["peak_percent"] is None
    assert b["admitted"] == 1 and b["limit-rpm"]["mean"] is None and b["limit-rpm"]["stranger"] is None
    table = report(bin_dir, path, "--limit-rpm", "61")
    assert re.search(r"key a model m: 302 admitted in 299\.0 s, 1 refused for a limit, 1 other 429", table)
    assert re.search(r"limit-rpm +61\.0 +62\.0 +101\.6 % +60\.\d +99\.\d %", table)


def test_a_real_ledger_can_be_reported(provider, bin_dir):
    p = provider("--limit-rpm", "30", "--limit-burst-ms", "20000")
    for _ in range(14):
        call(p)
    lines = ledger(p)
    (pool,) = map(json.loads, report(bin_dir, p.ledger, "--report-json", "--limit-rpm", "30").splitlines())
    assert pool["limit-rpm"]["peak"] == pool["admitted"] == sum(line["admitted"] for line in lines)
    assert pool["refused"] == 14 - pool["admitted"] > 0


def test_what_is_no_ledger_is_said_with_its_line(bin_dir, tmp_path):
    path = tmp_path / "ledger"
    path.write_text(row(1) + "{}\n")
    r = subprocess.run([bin_dir / "headrace-provider", "--report", path], capture_output=True, text=True)
    assert r.returncode == 1 and "line 2" in r.stderr
