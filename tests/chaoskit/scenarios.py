"""The fault matrix as named scenarios: each breaks one thing in a way that is always the same.

A scenario is a function of a running cluster; what it returns is ignored, what it raises has failed. The
checker looks at everything afterwards. Its row says which rows of the matrix (docs/recovery.md) it covers,
what the cluster is made of, and whether it belongs to the short set.
"""
import os
import time

from cluster import Trouble, wait_for

SCENARIOS = {}


def scenario(rows, text, short=False, finish_s=60, **how):
    """how: what Cluster is made with."""
    def add(function):
        name = function.__name__.replace("_", "-")
        SCENARIOS[name] = {"run": function, "rows": rows, "text": text, "short": short, "how": how,
                           "finish_s": finish_s}
        return function
    return add


def used(cluster, n, seconds=30):
    """Waits until the consumer has used n more results."""
    target = cluster.n_used() + n
    wait_for(f"{n} more results", lambda: cluster.keep_alive() or cluster.n_used() >= target, seconds, 0.1)


def pause(seconds):
    """The time that a fault lasts; it is the fault, so nothing can be waited for instead."""
    time.sleep(seconds)


def restart(cluster, name):
    cluster.parts[name].kill()
    cluster.parts[name].start()


def with_link_fault(cluster, link, seconds, *fault):
    cluster.fault(link, *fault)
    pause(seconds)
    cluster.heal(link)


@scenario("1", "workers killed one after another, some of them idle", short=True)
def worker_killed(cluster):
    for name in cluster.workers:
        used(cluster, 100)
        restart(cluster, name)
    used(cluster, 200)


@scenario("3", "a worker killed with calls in flight: each is one counted ambiguity", latency=500)
def worker_killed_in_a_call(cluster):
    used(cluster, 100)
    for name in cluster.workers:
        restart(cluster, name)
        used(cluster, 100)


@scenario("4", "a worker stopped for longer than its calls wait: its late answers are used", short=True,
          latency=200, lost_ms=1000)
def worker_stopped(cluster):
    used(cluster, 100)
    for name in cluster.workers[:2]:
        cluster.parts[name].stop()
        pause(4.5)
        cluster.parts[name].go_on()
        used(cluster, 200)


@scenario("6", "worker and coordinator cut, one way and both ways", short=True)
def worker_cut_off(cluster):
    used(cluster, 100)
    for name, way in zip(cluster.workers, ("both", "up", "down")):
        with_link_fault(cluster, name, 3.5, "hole", way)
        used(cluster, 200)


@scenario("7", "a half-open connection: the worker is not told that the coordinator is gone")
def worker_half_open(cluster):
    used(cluster, 100)
    cluster.fault("worker-1", "half")
    used(cluster, 500)
    cluster.heal("worker-1")
    used(cluster, 200)


@scenario("8", "slow links everywhere")
def slow_links(cluster):
    for name in [*cluster.workers, "redis", "consumer"]:
        cluster.fault(name, "delay", 30)
    cluster.fault("provider", "bandwidth", 50000)
    used(cluster, 1000, 60)


@scenario("9", "two processes with one worker's name", workers=2)
def two_with_one_name(cluster):
    import copy
    first = cluster.parts["worker-1"]
    twin = copy.copy(first)
    twin.process, twin.kills = None, 0
    twin.start()  # it has no process yet, so it does not see the other one
    first.lives = twin.lives
    used(cluster, 500)
    twin.process.terminate()
    twin.process.wait(20)
    used(cluster, 200)


@scenario("11, 17", "the coordinator killed again and again, wherever it stands", short=True)
def coordinator_killed(cluster):
    for i in range(4):
        used(cluster, 100)
        restart(cluster, "coordinator")
        if i % 2:
            pause(0.1 * i)  # again while it recovers
            restart(cluster, "coordinator")
        cluster.wait_open()


@scenario("12", "the coordinator stopped past its lease", latency=100)
def coordinator_stopped(cluster):
    used(cluster, 100)
    cluster.parts["coordinator"].stop()
    pause(12)
    cluster.parts["coordinator"].go_on()
    used(cluster, 300)


@scenario("13", "the coordinator cut from Redis alone: answers wait", short=True)
def redis_cut_off(cluster):
    used(cluster, 100)
    for way in ("both", "up", "down"):
        with_link_fault(cluster, "redis", 2, "hole", way)
        used(cluster, 200)
    cluster.fault("redis", "half")
    pause(1)
    cluster.heal("redis")
    used(cluster, 200)


@scenario("14", "Redis killed and started again", short=True)
def redis_killed(cluster):
    for _ in range(4):
        used(cluster, 200)
        restart(cluster, "redis")
        cluster.wait_redis()
    used(cluster, 200)


@scenario("15", "a power cut: Redis killed and its file cut to what was synced", short=True)
def redis_power_cut(cluster):
    for i in range(4):
        used(cluster, 200)
        if i % 2:
            cluster.parts["coordinator"].kill()  # it cannot send again what Redis has forgotten
        cluster.cut_power()
        cluster.parts["redis"].start()
        cluster.wait_redis()
        if i % 2:
            cluster.parts["coordinator"].start()
            cluster.wait_open()
    used(cluster, 200)


@scenario("16", "FLUSHALL: noticed, and nothing goes on silently", workers=1, total=1000)
def redis_flushed(cluster):
    used(cluster, 300)
    cluster.redis("FLUSHALL")
    wait_for("the alarm", lambda: "store.fenced" in cluster.parts["coordinator"].log.read_text(), 20)
    wait_for("bad health", lambda: not cluster.get_health(), 10)
    acked = cluster.acked()
    pause(1)
    if cluster.acked() != acked:
        raise Trouble("records were acked after FLUSHALL")


@scenario("17", "SCRIPT FLUSH, and replies of Redis cut off after the script ran", short=True)
def scripts_flushed(cluster):
    for i in range(10):
        used(cluster, 100)
        cluster.redis("SCRIPT", "FLUSH")
        cluster.fault("redis", "cut", 40 + 7 * i)
    cluster.heal("redis")
    used(cluster, 200)


@scenario("18", "Redis slow, paused and stopped")
def redis_paused(cluster):
    used(cluster, 100)
    cluster.note("pause", "redis")
    cluster.redis("CLIENT", "PAUSE", 2000, "ALL")
    pause(2)
    used(cluster, 200)
    cluster.redis("DEBUG", "SLEEP", 3, seconds=10)
    used(cluster, 200)
    cluster.note("over", "redis")
    cluster.parts["redis"].stop()
    pause(4)
    cluster.parts["redis"].go_on()
    used(cluster, 200)


@scenario("19", "Redis full: refused before anything happens, and producers wait")
def redis_full(cluster):
    used(cluster, 300)
    cluster.note("pause", "redis")
    cluster.redis("CONFIG", "SET", "maxmemory", 1)
    wait_for("the refusal in the log", lambda: "store.write_refused" in cluster.parts["coordinator"].log.read_text())
    before = cluster.acked()
    pause(2)
    if cluster.acked() != before:
        raise Trouble("records were acked that Redis has refused")
    cluster.redis("CONFIG", "SET", "maxmemory", 0)
    cluster.note("over", "redis")
    used(cluster, 300)


@scenario("20", "the append-only file ends in half a command")
def torn_file(cluster):
    for _ in range(3):
        used(cluster, 200)
        cluster.cut_power()
        newest = max((cluster.path / "redis").rglob("*.incr.aof"), key=lambda file: file.stat().st_mtime)
        with open(newest, "ab") as file:
            file.write(b"*3\r\n$7\r\nEVALSH")
        cluster.parts["redis"].start()
        cluster.wait_redis()
    used(cluster, 200)


@scenario("22", "producers killed between send and ack; resent, out of order, with a gap", short=True)
def producer_killed(cluster):
    for _ in range(4):
        used(cluster, 100)
        for name in cluster.producers:
            restart(cluster, name)
    used(cluster, 200)


@scenario("23", "the consumer killed after use, before the ack", short=True, die_rate=0.05)
def consumer_killed(cluster):
    used(cluster, 2000, 60)
    if cluster.parts["consumer"].kills == 0:
        raise Trouble("the consumer was never killed")


@scenario("24", "the consumer stands still: the outbox fills to its bound, then producers wait",
          coordinator=("--max-results", "2000", "--max-bytes", "1MB"))
def consumer_stopped(cluster):
    used(cluster, 100)
    cluster.parts["consumer"].stop()
    wait_for("a full outbox", lambda: cluster.count_once() or max(
        life.get("headrace_outbox_results", 0) for life in cluster.counters.values()) >= 2000, 30)
    pause(3)
    most = max(life.get("headrace_outbox_results", 0) for life in cluster.counters.values())
    if most > 2000 + 20 * 256 * len(cluster.workers):
        raise Trouble(f"the outbox holds {most} results, want about 2000")
    cluster.parts["consumer"].go_on()
    used(cluster, 2500, 60)


@scenario("25", "429, with and without Retry-After", faults=("429=5%", "429-no-delay=2%"))
def rate_limited(cluster):
    used(cluster, 1000, 60)


@scenario("28", "500, 503 and broken gateways", faults=("500=5%", "503=3%", "html=2%"))
def provider_fails(cluster):
    used(cluster, 1000, 60)


@scenario("29", "the provider bills and cuts the answer: as many ambiguities as the ledger shows",
          faults=("cut=5%",))
def answer_cut(cluster):
    used(cluster, 1500, 60)


@scenario("30", "the provider hangs", faults=("hang=1%",), timeout_ms=2000)
def provider_hangs(cluster):
    used(cluster, 1000, 60)


@scenario("31", "answers that are malformed, short, doubled, shifted, fenced, cut", short=True,
          faults=("malformed=1%", "missing=2%", "duplicate=2%", "shifted=2%", "out-of-range=2%", "fenced=2%",
                  "prose=2%", "truncated=2%", "length=2%", "empty=1%", "wrong-type=1%"))
def bad_answers(cluster):
    used(cluster, 1500, 60)


@scenario("34", "the provider's connections reset under the requests", faults=("reset=2%",))
def provider_reset(cluster):
    for _ in range(10):
        used(cluster, 100)
        cluster.fault("provider", "reset")
        cluster.heal("provider")


@scenario("36", "a coordinator and workers that run out of descriptors for a moment")
def few_descriptors(cluster):
    import resource
    used(cluster, 100)
    for name in ["coordinator", *cluster.workers]:
        pid = cluster.parts[name].process.pid
        n = len(os.listdir(f"/proc/{pid}/fd"))
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (n, hard))
        cluster.note("pause", name)
        cluster.fault("*", "reset")
        pause(1)
        cluster.heal("*")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        cluster.note("over", name)
    used(cluster, 300)


def describe():
    return "\n".join(f"  {name:24} rows {row['rows']:7} {row['text']}" for name, row in sorted(SCENARIOS.items()))
