"""What headrace adds to a call at batch.size 1: p50 and p99 from PUSH to result, against the same calls made by curl
itself at the same rate; durable (appendfsync always), and with durability off. Half load is half of what the way from
PUSH to PULL takes through when all is sent at once; a quarter and an eighth stand beside it."""
import os
import subprocess
import sys
import time

import kit

SPIN = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
end, last, gaps = time.monotonic() + float(sys.argv[2]), time.monotonic(), []
while last < end:
    now = time.monotonic()
    if now - last > 0.001:
        gaps.append(now - last)
    last = now
print(len(gaps), max(gaps, default=0))
"""


def build(folder):
    program = f"{folder}/load"
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libzmq", "libcurl"], capture_output=True, text=True, check=True)
    subprocess.run(["cc", "-O2", "-o", program, f"{kit.ROOT}/tests/bench/load.c", *flags.stdout.split()], check=True)
    return program


def load(program, *argv):
    """p50 and p99 in ms, and answers a second. Ends the bench when records were not answered."""
    done = subprocess.run([program, *map(str, argv)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"load: {done.stderr}")
    sent, answered, p50, p99, us = map(int, done.stdout.split())
    if answered != sent:
        sys.exit(f"load {argv[0]}: {answered} answers to {sent} records")
    return p50 / 1000, p99 / 1000, answered * 1e6 / us


class Path:
    """A coordinator with a worker, fed by PUSH, that stands while it is measured."""

    def __init__(self, box, port, durable):
        name = "durable" if durable else "memory"
        self.box, (self.redis, address) = box, box.redis(name, durable)
        self.into, self.out = f"ipc://{box.folder}/{name}-in", f"ipc://{box.folder}/{name}-out"
        model = kit.write_model(f"{box.folder}/m.sql", port, 1)
        self.coordinator, self.at = box.coordinator(
            name + "-coordinator", address, "always" if durable else "none", "-f", model, "-m", "m", "--bind-in", self.into,
            "--bind-out", self.out)
        self.worker = box.start(name + "-worker", "headrace-worker", "--coordinator", self.at, "--max-inflight", 256)
        kit.wait_for("the worker", lambda: box.ask(self.at, "status").get("workers"))

    def end(self):
        for child in (self.worker, self.coordinator, self.redis):
            self.box.end(child)


def disk(folder, n=3000):
    """ms that the file system takes to keep 1,500 appended bytes: p50, p99, p99.9, most."""
    took = []
    with open(f"{folder}/synced", "ab", buffering=0) as f:
        for _ in range(n):
            f.write(b"x" * 1500)
            begin = time.monotonic()
            os.fdatasync(f.fileno())
            took.append(1000 * (time.monotonic() - begin))
    took.sort()
    return [took[min(n - 1, int(n * share))] for share in (0.5, 0.99, 0.999, 1)]


def stalls(seconds):
    """How often a second the idle machine takes a processor away from a process that runs, for 1 ms or more; and the
    longest of these times in ms."""
    cores = sorted(os.sched_getaffinity(0))
    spins = [subprocess.Popen([sys.executable, "-c", SPIN, str(core), str(seconds)], stdout=subprocess.PIPE, text=True)
             for core in cores]
    found = [spin.communicate()[0].split() for spin in spins]
    return sum(int(n) for n, _ in found) / seconds, 1000 * max(float(most) for _, most in found)


def bench(box, out, rounds, quick):
    report = kit.Report("latency", out)
    report.table("The machine itself: ms that an fdatasync of 1,500 bytes takes", ["p50", "p99", "p99.9", "most"], [disk(box.folder)])
    report.table("Times that a running process loses its processor for 1 ms or more, nothing else running", [
        "a second", "longest, ms"], [stalls(1 if quick else 10)])
    program, seconds, rounds = build(box.folder), 2 if quick else 5, 1 if quick else rounds
    _, port = box.simulator("provider", ledger=False)
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    paths = {"durable": Path(box, port, True), "durability none": Path(box, port, False)}
    full = {}
    for name, path in paths.items():
        load(program, "queue", path.into, path.out, 1000, 1)
        full[name] = kit.median([load(program, "queue", path.into, path.out, 1_000_000, 0.005 if quick else 0.06)[2]
                                 for _ in range(rounds)])
    half = int(min(full.values()) / 2)
    found = {}
    for _ in range(rounds):
        for rate in (half // 4, half // 2, half):
            found.setdefault((rate, "curl itself"), []).append(load(program, "http", url, rate, seconds))
            for name, path in paths.items():
                found.setdefault((rate, name), []).append(load(program, "queue", path.into, path.out, rate, seconds))
    for path in paths.values():
        path.end()
    mid = {key: [kit.median([f[k] for f in values]) for k in (0, 1)] for key, values in found.items()}
    over = {key: mid[key][1] - mid[key[0], "curl itself"][1] for key in mid}
    report.table("ms from when a record is due to its result; at once, " +
                 ", ".join(f"{name}: {rate:,.0f} records/s" for name, rate in full.items()),
                 ["records/s", "", "p50 ms", "p99 ms", "p99 over curl"],
                 [[f"{rate:,}", name, *mid[rate, name], over[rate, name]] for rate, name in mid])
    kit.lines(f"{out}/latency.svg", "p99 from PUSH to result, batch.size 1", "records/s", "ms", {
        name: [(rate, mid[rate, name][1]) for rate, other in mid if other == name] for name in ("curl itself", *paths)})
    for name, most in (("durable", 3), ("durability none", 1)):
        report.goal(f"{name}, half load: p99 over a direct curl, ms (at most {most})", f"{over[half, name]:.2f}",
                    over[half, name] <= most)
    return report.goals
