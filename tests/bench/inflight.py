"""4,096 calls in flight in one worker at a latency of 1 s: how many a second, the worker's processor time a call,
its memory a waiting call."""
import kit

SLOTS = 4096
RAMP = 7.5  # s: without a limit given, a pool begins with 64 calls at once and doubles with each round


def bench(box, out, rounds, quick):
    report = kit.Report("inflight", out)
    waves = 10 if quick else 20
    found = []
    for i in range(1 if quick else rounds):
        *figures, by_second = one_round(box, waves, i)
        found.append(figures)
    share, cpu, kb, base = (kit.median([f[k] for f in found]) for k in range(4))
    report.table(f"One worker, --max-inflight {SLOTS}, latency 1 s, {waves} waves of calls", ["", "median", "least", "most"], [
        [name, kit.median([f[k] for f in found]), min(f[k] for f in found), max(f[k] for f in found)]
        for k, name in enumerate(["% of 4,096 calls a second", "worker's CPU a call, us", "worker's memory a waiting call, kB",
                                  "worker's memory before, MB"])])
    kit.lines(f"{out}/inflight.svg", f"Calls a second: one worker, {SLOTS} at once, 1 s a call", "seconds", "calls/s", {
        "headrace": by_second, "ideal": [(second, SLOTS) for second, _ in by_second]}, scale=float)
    report.goal(f"{SLOTS} calls in flight at 1 s: % of {SLOTS} calls/s (at least 95)", f"{share:.1f}", share >= 95)
    report.goal("memory of a waiting call, kB (at most 30)", f"{kb:.1f}", kb <= 30)
    return report.goals


def one_round(box, waves, i):
    """Share of the calls that there could be, over the middle of the run; CPU us a call; kB a call; MB before; and
    the calls of each second."""
    provider, port = box.simulator(f"provider{i}", "--latency-ms", 1000)
    redis, address = box.redis(f"redis{i}", True)
    coordinator, at = box.coordinator(f"coordinator{i}", address, "always")
    worker = box.start(f"worker{i}", "headrace-worker", "--coordinator", at, "--max-inflight", SLOTS, "--name", "one")
    kit.wait_for("the worker", lambda: box.ask(at, "status").get("workers"))
    # One call first: what a worker has loaded once is not a call's.
    send(box, at, port, 1, f"warm{i}")
    base, cpu = kit.memory_kb(worker.pid, "VmRSS"), kit.cpu_s(worker.pid)
    n = SLOTS * waves
    send(box, at, port, n, f"calls{i}")
    peak, cpu = kit.memory_kb(worker.pid, "VmHWM"), kit.cpu_s(worker.pid) - cpu
    times = sorted(line["unix_us"] / 1e6 for line in box.ledger(f"provider{i}"))[1:]
    for child in (worker, coordinator, redis, provider):
        box.end(child)
    begin, end = times[0] + RAMP, times[-1] - 1.5
    rate = sum(1 for t in times if begin <= t < end) / (end - begin)
    by_second = [(s, sum(1 for t in times if s <= t - times[0] < s + 1)) for s in range(int(times[-1] - times[0]))]
    return 100 * rate / SLOTS, 1e6 * cpu / n, (peak - base) / SLOTS, base / 1000, by_second


def send(box, at, port, n, name):
    model = kit.write_model(f"{box.folder}/{name}.sql", port, 1)
    kit.send(box, at, model, kit.write_rows(f"{box.folder}/{name}.jsonl", n), n, name)
