"""`headrace run` on one record: the time above the call's own latency, the private Redis and all parts started
and stopped. Beside it, a bare `redis-server` from its start to its end."""
import subprocess
import time

import kit

LATENCY = 0.05


def redis_alone(folder):
    begin = time.monotonic()
    child = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", f"{folder}/alone.sock", "--dir", folder,
                              "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL)
    def ping():
        done = subprocess.run(["redis-cli", "-s", f"{folder}/alone.sock", "ping"], capture_output=True, text=True)
        return done.stdout.strip() == "PONG"
    kit.wait_for("redis", ping)
    child.terminate()
    child.wait()
    return 1000 * (time.monotonic() - begin)


def bench(box, out, rounds, quick):
    report = kit.Report("start", out)
    provider, port = box.simulator("provider", "--latency-ms", int(1000 * LATENCY))
    rows = kit.write_rows(f"{box.folder}/one.jsonl", 1)
    model = kit.write_model(f"{box.folder}/one.sql", port, 1)
    figures = kit.alternate(rounds if quick else max(rounds, 15), {
        "headrace run, ms above the call": lambda: 1000 * (kit.run(box, model, rows, f"{box.folder}/one-out.jsonl") - LATENCY),
        "redis-server alone, ms": lambda: redis_alone(box.folder)})
    box.end(provider)
    report.table("One record", ["", "median ms", "least", "most"],
                 [[name, kit.median(values), min(values), max(values)] for name, values in figures.items()])
    kit.bars(f"{out}/start.svg", "One record, start to end", [
        (name.split(",")[0], kit.median(values), f"{kit.median(values):.0f}") for name, values in figures.items()], "ms")
    ms = kit.median(figures["headrace run, ms above the call"])
    report.goal("headrace run on one record, ms above the call (at most 80)", f"{ms:.0f}", ms <= 80)
    return report.goals
