"""What headrace adds to a call at batch.size 1 and half load: p50 and p99 from PUSH to result, against the same calls
made by curl itself at the same rate; durable (appendfsync always), and with durability off."""
import subprocess
import sys

import kit


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


def bench(box, out, rounds, quick):
    report = kit.Report("latency", out)
    program, seconds = build(box.folder), 2 if quick else 10
    _, port = box.simulator("provider", ledger=False)
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    n = 5_000 if quick else 60_000
    model = kit.write_model(f"{box.folder}/full.sql", port, 1)
    full = n / kit.run(box, model, kit.write_rows(f"{box.folder}/rows.jsonl", n), "/dev/null")
    rate = int(full / 2)
    found = {"curl itself": [], "headrace, durable": [], "headrace, durability none": []}
    paths = {"headrace, durable": Path(box, port, True), "headrace, durability none": Path(box, port, False)}
    for path in paths.values():
        load(program, "queue", path.into, path.out, 1000, 1)
    for _ in range(1 if quick else rounds):
        found["curl itself"].append(load(program, "http", url, rate, seconds))
        for name, path in paths.items():
            found[name].append(load(program, "queue", path.into, path.out, rate, seconds))
    for path in paths.values():
        path.end()
    mid = {name: tuple(kit.median([f[k] for f in values]) for k in (0, 1)) for name, values in found.items()}
    report.table(f"{rate:,} records/s, half of {full:,.0f}: ms from when a record is due to its result", [
        "", "p50 ms", "p99 ms", "p50 over curl", "p99 over curl"], [
        [name, *mid[name], *(mid[name][k] - mid["curl itself"][k] for k in (0, 1))] for name in found])
    for name, most in (("headrace, durable", 3), ("headrace, durability none", 1)):
        over = mid[name][1] - mid["curl itself"][1]
        report.goal(f"{name}: p99 over a direct curl, ms (at most {most})", f"{over:.2f}", over <= most)
    return report.goals
