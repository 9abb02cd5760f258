"""The fault matrix as named scenarios: each breaks one thing in a way that is always the same.

A scenario is a function of a running cluster; what it returns is ignored, what it raises has failed. The
checker looks at everything afterwards. Its row says which rows of the matrix (docs/recovery.md) it covers,
what the cluster is made of, and whether it belongs to the short set.
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

from cluster import PEERS, Trouble, now_ms, wait_for

SCENARIOS = {}


def scenario(rows, text, short=False, finish_s=60, finishes=True, hooks=False, **how):
    """how: what Cluster is made with. finishes: afterwards all is done, and is checked. hooks: only programs
    built with HEADRACE_TEST_HOOKS can do it."""
    def add(function):
        name = function.__name__.replace("_", "-")
        SCENARIOS[name] = {"run": function, "rows": rows, "text": text, "short": short, "how": how,
                           "finish_s": finish_s, "finishes": finishes, "hooks": hooks}
        return function
    return add


def has_hooks(bin_folder):
    """Whether programs were built with HEADRACE_TEST_HOOKS."""
    return b"HEADRACE_TEST_DIE_AT" in (pathlib.Path(bin_folder) / "headrace-coordinator").read_bytes()


HASTY = ("--heartbeat", "500ms")  # silence is noticed after 1.5 s


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


@scenario("2", "a worker killed with calls that it has not begun", short=True, hooks=True, workers=2,
          worker_env=lambda name, life: {"HEADRACE_TEST_HOLD": "1"} if (name, life) == ("worker-1", 0) else {})
def worker_killed_holding(cluster):
    wait_for("calls at the worker that holds", lambda: cluster.count_once() or cluster.gauge(
        "headrace_inflight_calls") >= 5)
    restart(cluster, "worker-1")
    used(cluster, 300)


@scenario("3", "a worker killed with calls in flight: each is one counted ambiguity", latency=500)
def worker_killed_in_a_call(cluster):
    used(cluster, 100)
    for name in cluster.workers:
        restart(cluster, name)
        used(cluster, 100)


@scenario("4", "a worker stopped for longer than its calls wait: its late answers are used", short=True,
          latency=200, lost_ms=1000, coordinator=HASTY)
def worker_stopped(cluster):
    used(cluster, 100)
    for name in cluster.workers[:2]:
        cluster.parts[name].stop()
        pause(2.8)
        cluster.parts[name].go_on()
        used(cluster, 200)


def hang_for(ms):
    """The environment of a program whose loop stands still for ms at a signal."""
    return lambda *whose: {"HEADRACE_TEST_HANG_MS": str(ms)}


@scenario("5", "a worker's and then the coordinator's loop hangs, while ZeroMQ's threads still answer for it",
          short=True, hooks=True, coordinator=HASTY, env=hang_for(2500), worker_env=hang_for(2500))
def loop_hangs(cluster):
    used(cluster, 100)
    log = cluster.parts["coordinator"].log
    for name, whose, word in (("worker-1", log, "worker.lost worker=worker-1 reason=silent"),
                              ("coordinator", cluster.parts["worker-2"].log, "link.silent")):
        cluster.hang(name)
        wait_for(f"'{word}'", lambda: word in whose.read_text(), 10)
        pause(1)
        cluster.note("over", name)
        used(cluster, 200)


@scenario("6", "worker and coordinator cut, one way and both ways", short=True, coordinator=HASTY)
def worker_cut_off(cluster):
    used(cluster, 100)
    for name, way in zip(cluster.workers, ("both", "up", "down")):
        with_link_fault(cluster, name, 2, "hole", way)
        used(cluster, 200)


@scenario("7", "a half-open connection: the worker is not told that the coordinator is gone")
def worker_half_open(cluster):
    used(cluster, 100)
    cluster.fault("worker-1", "half")
    log = cluster.parts["coordinator"].log
    wait_for("the worker's new HELLO", lambda: log.read_text().count("worker.hello worker=worker-1") > 1, 8)
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
    cluster.note("pause", "worker-1")  # what is sent to it while it says good-bye it never gets
    twin.process.terminate()
    twin.process.wait(20)
    cluster.note("over", "worker-1")
    used(cluster, 200)


@scenario("10", "500 workers come back at once after a restart of the coordinator: welcome within 5 s, 99 of 100",
          short=True)
def many_workers_reconnect(cluster):
    log = cluster.path / "crowd"
    crowd = subprocess.Popen([sys.executable, str(PEERS), "crowd", f"tcp://127.0.0.1:{cluster.bind_port}", "crowd",
                              str(cluster.seed), str(log), "500"], env=cluster.env)

    def welcomes():
        lines = log.read_text().split("\n")[:-1] if log.exists() else []
        return [tuple(map(int, line.split(" "))) for line in lines]
    try:
        wait_for("500 workers", lambda: len({who for who, _ in welcomes()}) == 500)
        used(cluster, 100)
        cluster.parts["coordinator"].kill()
        begin = now_ms()
        cluster.parts["coordinator"].start()
        wait_for("500 workers again", lambda: len({who for who, ms in welcomes() if ms > begin}) == 500, 20)
        first = {}
        for who, ms in welcomes():
            if ms > begin:
                first.setdefault(who, ms - begin)
        p99 = sorted(first.values())[494]
        if p99 > 5000:
            raise Trouble(f"99 of 100 workers were welcome after {p99:.0f} ms, want 5000")
        used(cluster, 200)
    finally:
        crowd.kill()
        crowd.wait()


@scenario("11, 17", "the coordinator killed again and again, wherever it stands")
def coordinator_killed(cluster):
    for i in range(4):
        used(cluster, 100)
        restart(cluster, "coordinator")
        if i % 2:
            pause(0.1 * i)  # again while it recovers
            restart(cluster, "coordinator")
        cluster.wait_open()


def dies_at(script, before=1):
    """The environment of a coordinator whose lives, but for the first ones, each end at a later point of a script:
    right before it is sent or right after it was answered."""
    return lambda life: {"HEADRACE_TEST_DIE_AT": f"{script}:{life - before + 1}"} if life >= before else {}


def killed_at_points(cluster, n, provoke=lambda: None):
    """Starts the coordinator n times; each time it dies at its point."""
    part = cluster.parts["coordinator"]
    for point in range(1, n + 1):
        part.start()
        end = time.monotonic() + 30
        while part.is_running():
            if time.monotonic() > end:
                raise Trouble(f"it passed point {point} ({part.env(part.lives - 1)}) unharmed")
            provoke()
            time.sleep(0.02)
        if part.process.returncode != -signal.SIGKILL:
            raise Trouble(f"the coordinator ended with {part.process.returncode} at point {point}")
        part.kills += 1
        part.kill()  # notes it
    part.env = lambda life: {}
    part.start()
    cluster.wait_open()
    used(cluster, 200)


@scenario("11", "the coordinator killed right before and right after each of its first writes, again and again",
          hooks=True, finish_s=90, env=dies_at("part_write"))
def coordinator_killed_at_writes(cluster):
    used(cluster, 100)
    cluster.parts["coordinator"].kill()
    killed_at_points(cluster, 32)


@scenario("11", "the coordinator killed at the first four points of its writes, one partition", short=True, hooks=True, partitions=1,
          env=dies_at("part_write"))
def coordinator_killed_at_first_writes(cluster):
    used(cluster, 100)
    cluster.parts["coordinator"].kill()
    killed_at_points(cluster, 4)


@scenario("11", "the coordinator killed before and after it takes each partition", hooks=True,
          env=dies_at("part_acquire"))
def coordinator_killed_acquiring(cluster):
    used(cluster, 100)
    cluster.parts["coordinator"].kill()
    killed_at_points(cluster, 2 * cluster.partitions)


@scenario("11", "the coordinator killed before and after it prolongs each lease", hooks=True,
          env=dies_at("part_renew"), coordinator=("--lease", "1s"))
def coordinator_killed_renewing(cluster):
    used(cluster, 100)
    cluster.parts["coordinator"].kill()
    killed_at_points(cluster, 2 * cluster.partitions)


@scenario("11", "the coordinator killed before and after a consumer's acks", hooks=True, env=dies_at("out_ack"))
def coordinator_killed_acking(cluster):
    used(cluster, 100)
    cluster.parts["coordinator"].kill()
    killed_at_points(cluster, 8)


@scenario("11", "the coordinator killed before and after it adds a revision of a model", hooks=True,
          env=dies_at("model_put"))
def coordinator_killed_adding_a_model(cluster):
    used(cluster, 100)
    cluster.parts["coordinator"].kill()
    cluster.models.write_text(cluster.models.read_text().replace("'batch.size' = '20'", "'batch.size' = '19'"))
    killed_at_points(cluster, 2)
    log = cluster.parts["coordinator"].log.read_text()
    if "catalog.revision model=tag revision=2" in log:
        raise Trouble("the revision was added twice")
    if cluster.redis("HGET", "hr:{chaos}:model:tag", "head") != "2":
        raise Trouble("the revision was not added")


@scenario("11", "the coordinator killed before and after it gives each partition up", hooks=True,
          env=dies_at("part_release"))
def coordinator_killed_releasing(cluster):
    part = cluster.parts["coordinator"]
    used(cluster, 100)
    part.kill()

    def end_in_good_order():
        if cluster.get_health() and part.is_running():
            part.process.terminate()
            wait_for("its end", lambda: not part.is_running(), 20)
    killed_at_points(cluster, 2 * cluster.partitions, end_in_good_order)


@scenario("11", "the coordinator killed before and after the writes that take dead letters up again", hooks=True,
          partitions=1, env=dies_at("part_write"), poison=[("producer-1", seq) for seq in range(5, 45, 5)])
def coordinator_killed_redriving(cluster):
    wait_for("the dead letters", lambda: cluster.n_dead() == len(cluster.poison), 40)
    cluster.parts["coordinator"].kill()
    asking = threading.Event()

    def redrive():
        while not asking.is_set():
            try:
                cluster.headrace("dlq", "redrive", "--all", seconds=2)
            except subprocess.TimeoutExpired:
                pass
    thread = threading.Thread(target=redrive)
    thread.start()
    try:
        killed_at_points(cluster, 16)
    finally:
        asking.set()
        thread.join()
    wait_for("all dead letters again", lambda: cluster.n_dead() == len(cluster.poison), 60)


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
        with_link_fault(cluster, "redis", 1.2, "hole", way)
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
    for i in range(3):
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


@scenario("16", "FLUSHALL: noticed, and nothing goes on silently", workers=1, finishes=False)
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


@scenario("21", "Redis's clock jumps an hour ahead, two back, and home: nothing stalls, no lease is lost", short=True,
          coordinator=("--lease", "2s"))
def redis_clock_jumps(cluster):
    if not cluster.has_power_cut:
        raise Trouble("libsynced.so is not there")
    used(cluster, 100)
    for seconds in (3600, -3600, 0):
        cluster.set_redis_clock(seconds)
        clock = int(cluster.redis("TIME").split()[0]) - time.time()
        if abs(clock - seconds) > 60:
            raise Trouble(f"Redis's clock is {clock:.0f} s ahead, want {seconds}")
        begin = time.monotonic()
        longest, last, n = 0.0, begin, cluster.n_used()
        while time.monotonic() - begin < 1.6:  # a lease is prolonged meanwhile
            time.sleep(0.05)
            if cluster.n_used() > n:
                longest, last, n = max(longest, time.monotonic() - last), time.monotonic(), cluster.n_used()
        longest = max(longest, time.monotonic() - last)
        if longest > 2:  # 1 s, and as much for a busy machine
            raise Trouble(f"nothing came for {longest:.1f} s")
    if "store.fenced" in cluster.parts["coordinator"].log.read_text():
        raise Trouble("a partition was fenced")


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


POISON = ("producer-1", 100)


@scenario("32", "one poison record in batches of 64: found by at most 12 calls more, one dead letter", short=True,
          batch=(64, 2000), partitions=1, producers=1, rate=2000, total=1280, poison=[POISON])
def poison_record(cluster):
    wait_for("the dead letter", lambda: cluster.n_dead() == 1, 40)
    wait_for("all others", lambda: cluster.n_used() == 1279, 40)
    calls = [json.loads(line) for line in cluster.ledger.read_text().splitlines()]
    first = next(call for call in calls if call["status"] == 400)
    n_extra = sum(set(call["records"]) <= set(first["records"]) for call in calls) - 1
    if len(first["records"]) < 60:
        raise Trouble(f"the batch had {len(first['records'])} records, want 64 or so")
    if n_extra > 12:
        raise Trouble(f"{n_extra} calls more for the batch of the poison record, want at most 12")


@scenario("33", "two sources start over, all that was accepted sent again in another order, everybody restarted",
          producer_env=lambda name, life: {"CHAOS_REPLAY": str(life)})
def sources_in_another_order(cluster):
    used(cluster, 400)
    for round in range(3):
        for name in cluster.producers:
            cluster.parts[name].kill()
        if round == 2:
            restart(cluster, "coordinator")
            cluster.wait_open()
        order = cluster.producers if round % 2 else cluster.producers[::-1]
        for name in order:  # the one is done with its past before the other begins
            before = cluster.acked()[name]
            cluster.parts[name].start()
            wait_for(f"{name} to go on", lambda: cluster.acked()[name] > before + 50)
        used(cluster, 300)


@scenario("34", "the provider's connections reset under the requests", faults=("reset=2%",))
def provider_reset(cluster):
    for _ in range(10):
        used(cluster, 100)
        cluster.fault("provider", "reset")
        cluster.heal("provider")


@scenario("35", "strangers send bad frames, other versions, oversize, replies to nothing: refused and counted", short=True)
def bad_frames(cluster):
    used(cluster, 100)
    for seed in range(3):
        done = subprocess.run([sys.executable, str(PEERS), "stranger", f"tcp://127.0.0.1:{cluster.bind_port}",
                               "stranger", str(seed), "-", "1500"], env=cluster.env, timeout=60)
        if done.returncode != 0:
            raise Trouble(f"the stranger ended with {done.returncode}")
    cluster.count_once()
    if cluster.gauge("headrace_frames_bad_total") < 1000:
        raise Trouble(f"{cluster.gauge('headrace_frames_bad_total')} bad frames counted, want more")
    used(cluster, 200)


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
        cluster.wait_open()  # its metrics can be read again, too
    used(cluster, 300)


def describe():
    """The table of docs/recovery.md."""
    rows = [f"| `{name}` | {row['rows']} | {row['text']} |" for name, row in sorted(SCENARIOS.items())]
    return "\n".join(["| scenario | rows of the matrix | what breaks |", "| --- | --- | --- |", *rows])
