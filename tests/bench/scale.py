"""1 to 16 workers at a latency of 100 ms: calls a second against the ideal. 100,000 to 10,000,000 records: seconds
and memory."""
import os
import subprocess
import threading
import time

import kit

SLOTS = 32  # calls in flight at each worker: 320 calls a second at 100 ms


def calls_a_second(box, workers):
    if os.path.exists(f"{box.folder}/provider.ledger"):
        os.unlink(f"{box.folder}/provider.ledger")
    provider, port = box.simulator("provider", "--latency-ms", 100)
    n = 320 * workers * 4
    rows = kit.write_rows(f"{box.folder}/rows.jsonl", n)
    model = kit.write_model(f"{box.folder}/m.sql", port, 1)
    kit.run(box, model, rows, "/dev/null", "--workers", workers, "--max-inflight", SLOTS)
    times = sorted(line["unix_us"] / 1e6 for line in box.ledger("provider"))
    box.end(provider)
    begin, end = times[0] + 0.5, times[-1] - 0.5
    return sum(1 for t in times if begin <= t < end) / (end - begin)


def peaks(box, port, n):
    """Seconds of a run of n records at batch.size 100, and the peak memory in MB of each of its processes."""
    rows, model = kit.write_rows(f"{box.folder}/rows.jsonl", n), kit.write_model(f"{box.folder}/m.sql", port, 100)
    begin = time.monotonic()
    child = subprocess.Popen([f"{box.bin}/headrace", "run", "-f", model, "-m", "m", "-i", rows, "-o", "/dev/null", "--quiet"],
                             env=box.env, stderr=subprocess.DEVNULL)
    most, done = {}, threading.Event()

    def watch():
        while not done.wait(0.1):
            for name, pid in {"headrace": child.pid, **kit.children_of(child.pid)}.items():
                try:
                    most[name] = max(most.get(name, 0), kit.memory_kb(pid, "VmHWM") / 1000)
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
    return time.monotonic() - begin, most


def bench(box, out, rounds, quick):
    report = kit.Report("scale", out)
    sizes = (1, 2, 4) if quick else (1, 2, 4, 8, 16)
    rounds = 1 if quick else rounds
    found = kit.alternate(rounds, {n: (lambda n=n: calls_a_second(box, n)) for n in sizes})
    ideal = {n: SLOTS * n / 0.1 for n in sizes}
    report.table(f"Workers, {SLOTS} calls in flight each, latency 100 ms", ["workers", "calls/s", "ideal", "% of ideal"], [
        [n, kit.median(found[n]), ideal[n], 100 * kit.median(found[n]) / ideal[n]] for n in sizes])
    kit.lines(f"{out}/scale.svg", "Calls a second, 100 ms a call", "workers", "calls/s", {
        "headrace": [(n, kit.median(found[n])) for n in sizes], "ideal": list(ideal.items())})
    for n in sizes:
        share = 100 * kit.median(found[n]) / ideal[n]
        report.goal(f"{n} workers: % of the ideal (at least 95 until the machine ends)", f"{share:.1f}", share >= 95)

    provider, port = box.simulator("fast", ledger=False)
    table, per_million = [], {}
    for n in (10_000, 100_000) if quick else (100_000, 1_000_000, 10_000_000):
        seconds, most = peaks(box, port, n)
        per_million[n] = seconds * 1e6 / n
        table.append([n, seconds, n / seconds, *(most.get(name, 0.0) for name in
                      ("headrace", "headrace-coordi", "headrace-worker", "redis-server"))])
    box.end(provider)
    report.table("Records, batch.size 100, one worker: peak memory in MB", [
        "records", "seconds", "records/s", "headrace", "coordinator", "worker", "redis"], table)
    last, before = table[-1], table[-2]
    report.goal("ten times the records: seconds a record (at most 1.15 times)",
                f"{per_million[last[0]] / per_million[before[0]]:.2f}", per_million[last[0]] <= 1.15 * per_million[before[0]])
    growth = max(b / a for a, b in zip(before[3:], last[3:]) if a > 0)
    report.goal("ten times the records: memory of the process that grew most (at most 1.25 times)", f"{growth:.2f}", growth <= 1.25)
    return report.goals
