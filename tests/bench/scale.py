"""1 to 16 workers at a latency of 100 ms: calls a second against the ideal. 100,000 to 10,000,000 records: seconds
and memory."""
import os
import subprocess
import threading
import time

import kit

PROCESSES = ("headrace", "headrace-coordi", "headrace-worker", "redis-server")
SLOTS = 32  # calls in flight at each worker: 320 calls a second at 100 ms


def calls_a_second(box, workers):
    """Calls a second in the middle of a run, and how much of the processors the whole run used, in %."""
    if os.path.exists(f"{box.folder}/provider.ledger"):
        os.unlink(f"{box.folder}/provider.ledger")
    provider, port = box.simulator("provider", "--latency-ms", 100)
    n = 320 * workers * 4
    rows = kit.write_rows(f"{box.folder}/rows.jsonl", n)
    model = kit.write_model(f"{box.folder}/m.sql", port, 1)
    busy, all_of_it = kit.processors_s()
    kit.run(box, model, rows, "/dev/null", "--workers", workers, "--max-inflight", SLOTS)
    busy, all_of_it = (after - before for after, before in zip(kit.processors_s(), (busy, all_of_it)))
    times = sorted(line["unix_us"] / 1e6 for line in box.ledger("provider"))
    box.end(provider)
    begin, end = times[0] + 0.5, times[-1] - 0.5
    return sum(1 for t in times if begin <= t < end) / (end - begin), 100 * busy / all_of_it


def memory_of(box, port, n):
    """Seconds of a run of n records at batch.size 100, and the memory in MB of each of its processes, over time."""
    rows, model = kit.write_rows(f"{box.folder}/rows.jsonl", n), kit.write_model(f"{box.folder}/m.sql", port, 100)
    begin = time.monotonic()
    child = subprocess.Popen([f"{box.bin}/headrace", "run", "-f", model, "-m", "m", "-i", rows, "-o", "/dev/null", "--quiet"],
                             env=box.env, stderr=subprocess.DEVNULL)
    found, done = {}, threading.Event()

    def watch():
        while not done.wait(0.05):
            for name, pid in {"headrace": child.pid, **kit.children_of(child.pid)}.items():
                try:
                    found.setdefault(name, []).append(kit.memory_kb(pid, "VmRSS") / 1000)
                except (OSError, StopIteration):
                    pass
    watcher = threading.Thread(target=watch)
    watcher.start()
    status = child.wait()
    done.set()
    watcher.join()
    os.unlink(rows)
    if status != 0:
        raise SystemExit(f"headrace run of {n} records: status {status}")
    return time.monotonic() - begin, found


def growth(values):
    """The second half of a run against its first, the start left out."""
    values = values[len(values) // 10:]
    half = len(values) // 2
    return kit.median(values[half:]) / kit.median(values[:half]) if half > 0 else 1.0


def bench(box, out, rounds, quick):
    report = kit.Report("scale", out)
    sizes = (1, 2, 4) if quick else (1, 2, 4, 8, 16)
    rounds = 1 if quick else rounds
    found = {n: [] for n in sizes}
    for _ in range(rounds):
        for n in sizes:
            found[n].append(calls_a_second(box, n))
    rate, busy = ({n: kit.median([f[k] for f in found[n]]) for n in sizes} for k in (0, 1))
    ideal = {n: SLOTS * n / 0.1 for n in sizes}
    report.table(f"Workers, {SLOTS} calls in flight each, latency 100 ms", [
        "workers", "calls/s", "ideal", "% of ideal", "processors busy %"],
        [[n, rate[n], ideal[n], 100 * rate[n] / ideal[n], busy[n]] for n in sizes])
    kit.lines(f"{out}/scale.svg", "Calls a second, 100 ms a call", "workers", "calls/s", {
        "headrace": list(rate.items()), "ideal": list(ideal.items())})
    for n in sizes:
        share = 100 * rate[n] / ideal[n]
        report.goal(f"{n} workers: % of the ideal (at least 95 until the machine ends)", f"{share:.1f}", share >= 95)

    provider, port = box.simulator("fast", ledger=False)
    table, per_million = [], {}
    for n in (10_000, 100_000) if quick else (100_000, 1_000_000, 10_000_000):
        seconds, memory = memory_of(box, port, n)
        per_million[n] = seconds * 1e6 / n
        table.append([n, seconds, n / seconds, *(max(memory.get(name, [0])) for name in PROCESSES)])
    box.end(provider)
    report.table("Records, batch.size 100, one worker: most memory in MB", [
        "records", "seconds", "records/s", "headrace", "coordinator", "worker", "redis"], table)
    step = seconds / len(memory["headrace"])
    kit.lines(f"{out}/scale-memory.svg", f"Memory over {n:,} records", "seconds", "MB", {
        name: [(i * step, mb) for i, mb in enumerate(memory[name])][::max(1, len(memory[name]) // 200)]
        for name in PROCESSES if name in memory}, scale=float)
    last, before = table[-1][0], table[-2][0]
    report.goal("ten times the records: seconds a record (at most 1.15 times)", f"{per_million[last] / per_million[before]:.2f}",
                per_million[last] <= 1.15 * per_million[before])
    most = max(growth(memory[name]) for name in PROCESSES if name in memory)
    report.goal(f"second half of {last:,} records against the first: memory of the process that grew most (at most 1.1 times)",
                f"{most:.2f}", most <= 1.1)
    return report.goals
