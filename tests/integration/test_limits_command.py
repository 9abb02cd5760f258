"""`headrace limits`: what is told of pools that wait, that are refused, and that stopped."""
import json
import subprocess
import urllib.request

from conftest import Coordinator, Worker, make_models, metrics, wait_for


def limits(box, coordinator, *options):
    done = box.run("headrace", "limits", "--coordinator", coordinator.address, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def pool_of(box, coordinator):
    pools = json.loads(limits(box, coordinator, "--json"))["pools"]
    return pools[0] if pools else None


def control(simulator, change):
    request = urllib.request.Request(f"http://127.0.0.1:{simulator.port}/control", json.dumps(change).encode())
    urllib.request.urlopen(request, timeout=10).close()


def submit(box, coordinator, n):
    rows = "".join(json.dumps({"id": str(i), "text": f"fine {i}"}) + "\n" for i in range(n))
    done = box.run("headrace", "submit", "--coordinator", coordinator.address, "-m", "llm_sentiment", "-q", "-i", "-",
                   input=rows.encode())
    assert done.returncode == 0, done.stderr


def test_a_pool_that_waits_says_what_its_limits_hold(box, redis, simulator):
    models = make_models(box, simulator.url, batch_size="1", limit_rpm="120", limit_tpm="1000000",
                         limit_concurrency="8")
    c = Coordinator(box, redis, "--models", models)
    assert "no pools" in limits(box, c)
    Worker(box, c)
    submit(box, c, 200)
    pool = wait_for("calls that were granted", lambda: (lambda p: p and p["granted"] > 2 and p)(pool_of(box, c)))
    kinds = {kind["kind"]: kind for kind in pool["kinds"]}
    assert (kinds["requests"]["limit"], kinds["requests"]["refill"]) == (120, 120)
    assert kinds["tokens"]["limit"] == 1000000 and set(kinds) == {"requests", "tokens"}
    assert pool["models"] == ["llm_sentiment"] and pool["profile"] == "openai" and pool["scale"] == 1
    assert pool["ready"] > 0 and pool["calls_limit"] == 8 and pool["stopped"] is None and not pool["away"]
    m = metrics(c.metrics_url)
    assert m["headrace_permits_granted_total"] >= pool["granted"] > 2
    assert m["headrace_calls_waiting_for_permits"] > 0 and m["headrace_pools_blocked"] == 0
    wait_for("that the limits set the pace", lambda: pool_of(box, c)["why"] == "the limits set the pace")
    table = limits(box, c)
    assert "refill/min" in table and "requests" in table and "8 granted to this coordinator" in table


def test_a_pool_that_was_refused_says_until_when(box, redis, provider):
    p = provider("--fault", "429=1", "--retry-after-ms", "60000")
    c = Coordinator(box, redis, "--models", make_models(box, p.url, limit_rpm="6000"))
    Worker(box, c)
    submit(box, c, 20)
    pool = wait_for("a blocked pool", lambda: (lambda p: p and p["blocked_ms"] and p)(pool_of(box, c)))
    assert 0 < pool["blocked_ms"] <= 66000 and pool["why"].startswith("the provider asked to wait ")
    assert "waits: the provider asked to wait" in limits(box, c)
    assert metrics(c.metrics_url)["headrace_pools_blocked"] == 1
    pool = wait_for("the rate that was cut", lambda: (lambda p: p["scale"] < 1 and p)(pool_of(box, c)))
    assert abs(pool["scale"] - 0.7) < 0.02 and 4000 < pool["kinds"][0]["refill"] < 4400


def test_a_pool_that_stopped_says_why(box, redis, provider):
    p = provider("--fault", "quota=1")
    c = Coordinator(box, redis, "--models", make_models(box, p.url))
    Worker(box, c)
    submit(box, c, 20)
    pool = wait_for("a stopped pool", lambda: (lambda p: p and p["stopped"] and p)(pool_of(box, c)))
    assert pool["stopped"] in pool["why"] and pool["why"].startswith("stopped: ")
    assert "no limits known" in limits(box, c)
    assert metrics(c.metrics_url)["headrace_pools_stopped"] == 1


def n_ok(coordinator):
    return metrics(coordinator.metrics_url)['headrace_results_total{outcome="ok"}']


def resume(box, coordinator, *args):
    return box.run("headrace", "limits", "resume", "--coordinator", coordinator.address, *args)


def test_a_pool_that_stopped_goes_on_by_command(box, redis, provider):
    p = provider("--fault", "quota=1", "--control")
    c = Coordinator(box, redis, "--models", make_models(box, p.url))
    Worker(box, c)
    submit(box, c, 20)
    pool = wait_for("a stopped pool that nothing is out of",
                    lambda: (lambda p: p and p["stopped"] and not p["inflight"] and p)(pool_of(box, c)))
    assert resume(box, c).returncode == 2 and resume(box, c, "--all", pool["pool"]).returncode == 2
    refused = resume(box, c, "another")
    assert refused.returncode == 5 and b"no such pool" in refused.stderr
    control(p, {"fault": {"quota": 0}})
    done = resume(box, c, pool["pool"])
    assert (done.returncode, done.stdout.decode()) == (0, f"resumed {pool['pool']}\n"), done.stderr
    wait_for("all results", lambda: n_ok(c) == 20)
    assert b"nothing had stopped" in resume(box, c, "--all").stdout


def test_records_of_a_pool_that_stopped_go_on_with_a_mended_model(box, redis, simulator):
    models = make_models(box, simulator.url, batch_size="1")
    models.write_text(models.read_text().replace("OPENAI_API_KEY", "NO_SUCH_KEY"))
    c = Coordinator(box, redis, "--models", models)
    Worker(box, c)
    submit(box, c, 5)
    pool = wait_for("a stopped pool", lambda: (lambda p: p and p["stopped"] and p)(pool_of(box, c)))
    assert pool["stopped"] == "fatal-config" and "NO_SUCH_KEY" in pool["pool"]
    models.write_text(models.read_text().replace("NO_SUCH_KEY", "OPENAI_API_KEY")
                      .replace("CREATE MODEL", "CREATE OR REPLACE MODEL"))
    done = box.run("headrace", "models", "create", models, "-c", c.address)
    assert done.returncode == 0, done.stderr.decode()
    out = box.path / "out.jsonl"
    done = box.run("headrace", "collect", "-c", c.address, "-o", out, "--count", 5, "--meta")
    assert done.returncode == 0, done.stderr.decode()
    got = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["error"] for row in got] == [None] * 5
    assert {row["meta"]["revision"] for row in got} == {2}


def test_a_pool_whose_limit_of_a_day_is_raised_goes_on(box, redis, simulator):
    c = Coordinator(box, redis, "--models", make_models(
        box, simulator.url, batch_size="1", limit_rpd="5", limit_rpm="60000", limit_profile="window"))
    Worker(box, c)
    submit(box, c, 20)
    wait_for("the day's limit", lambda: n_ok(c) == 5 and pool_of(box, c)["blocked_ms"] > 0)
    models = make_models(box, simulator.url, batch_size="1", limit_rpd="100000", limit_rpm="60000",
                         limit_profile="window")
    models.write_text(models.read_text().replace("CREATE MODEL", "CREATE OR REPLACE MODEL"))
    done = box.run("headrace", "models", "create", models, "--coordinator", c.address)
    assert done.returncode == 0, done.stderr
    wait_for("all results", lambda: n_ok(c) == 20)


def test_a_worker_without_the_credential_leaves_the_calls_to_others(box, redis, simulator):
    c = Coordinator(box, redis, "--models", make_models(box, simulator.url, batch_size="1"))
    Worker(box, c, name="keyless", has_key=False)
    submit(box, c, 100)
    pool = wait_for("a stopped pool", lambda: (lambda p: p and p["stopped"] and p)(pool_of(box, c)))
    assert pool["stopped"] == "fatal-config" and "OPENAI_API_KEY" in pool["why"]
    Worker(box, c, name="keyed")
    wait_for("all results", lambda: n_ok(c) == 100)
    submit(box, c, 200)
    wait_for("all results of both", lambda: n_ok(c) == 300)
    m = metrics(c.metrics_url)
    assert m['headrace_results_total{outcome="error"}'] == 0 and m["headrace_pools_stopped"] == 0


def test_nobody_there_is_an_error(box, bin_dir):
    done = subprocess.run([bin_dir / "headrace", "limits", "-c", f"ipc://{box.path}/none", "--timeout", "200ms"],
                          capture_output=True, text=True, env=box.env)
    assert done.returncode == 5 and "no connection" in done.stderr
