#!/usr/bin/env python3
"""Recovery time, and what durability costs.

1. N records are accepted and acked with no worker there, the coordinator is killed with SIGKILL and started
   again: how long until it takes records again, with every one of them found in Redis.
2. Throughput of `headrace run` with --durability always, everysec and none, alternating, medians.

    tests/bench/recovery.py [--records 1000000] [--batch 20] [--bin build/bin] [--rounds 5]
"""
import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def wait_for(what, check, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = check()
        if value is not None:
            return value
        time.sleep(0.005)
    sys.exit(f"{what}: not within {seconds} s")


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.children = args, folder, []

    def start(self, *argv, **kw):
        child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=open(f"{self.folder}/log", "a"), **kw)
        self.children.append(child)
        return child

    def stop(self):
        for child in reversed(self.children):
            if child.poll() is None:
                child.terminate()
        for child in self.children:
            child.wait()

    def coordinator(self):
        return self.start(f"{self.args.bin}/headrace-coordinator", "--bind", f"ipc://{self.folder}/c",
                          "--redis", f"unix:{self.folder}/redis", "--partitions", "8", "--max-bytes", "4GB",
                          "--log-level", "warn")

    def status(self):
        done = subprocess.run([f"{self.args.bin}/headrace", "status", "--coordinator", f"ipc://{self.folder}/c",
                               "--timeout", "20s"], capture_output=True, text=True)
        return json.loads(done.stdout) if done.returncode == 0 else None


def write_models(path, endpoint, batch):
    with open(path, "w") as f:
        f.write("CREATE MODEL m INPUT (text STRING) OUTPUT (sentiment STRING) WITH ('provider' = 'openai', "
                f"'endpoint' = '{endpoint}', 'model' = 'gpt-5.4-mini', 'batch.size' = '{batch}', "
                "'batch.prompt.template' = 'Return JSON array: [{\"index\": <n>, \"sentiment\": "
                "\"<positive|negative|neutral>\"}]')")


def write_rows(path, n):
    with open(f"{ROOT}/samples/reviews.jsonl", "rb") as f:
        rows = [line for line in f if line.strip()]
    with open(path, "wb") as f:
        for i in range(0, n, len(rows)):
            f.writelines(rows[:min(len(rows), n - i)])


def recovery(args):
    with tempfile.TemporaryDirectory() as folder:
        b = Bench(args, folder)
        try:
            b.start("redis-server", "--port", "0", "--unixsocket", f"{folder}/redis", "--dir", folder, "--save", "",
                    "--appendonly", "yes", "--appendfsync", "always")
            wait_for("redis-server", lambda: os.path.exists(f"{folder}/redis") or None)
            write_models(f"{folder}/m.sql", "http://127.0.0.1:9/", args.batch)
            write_rows(f"{folder}/rows.jsonl", args.records)
            coordinator = b.coordinator()
            wait_for("coordinator", lambda: (b.status() or {}).get("open") or None)
            began = time.monotonic()
            done = subprocess.run([f"{args.bin}/headrace", "submit", "--coordinator", f"ipc://{folder}/c", "-f",
                                   f"{folder}/m.sql", "-m", "m", "-i", f"{folder}/rows.jsonl", "--quiet"])
            if done.returncode != 0:
                sys.exit("submit failed")
            took_in = time.monotonic() - began
            coordinator.send_signal(signal.SIGKILL)
            coordinator.wait()
            began = time.monotonic()
            coordinator = b.coordinator()
            status = wait_for("recovery", lambda: (lambda s: s if s and s.get("open") else None)(b.status()))
            took = time.monotonic() - began
            with open(f"/proc/{coordinator.pid}/status") as f:
                peak = next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM"))
            print(f"recovery of {args.records} records in flight, batch.size {args.batch}")
            print(f"  taken in and acked     {took_in:8.2f} s   {args.records / took_in:10.0f} records/s, durable")
            print(f"  killed, open again     {took:8.2f} s   {status['queued_records']} records found (goal: 5 s "
                  f"for 1,000,000: {'met' if took <= 5 * max(1, args.records / 1e6) else 'not met'})")
            print(f"  coordinator's memory   {peak:8.0f} MB")
            return status["queued_records"] == args.records
        finally:
            b.stop()


def throughput(args, n=200_000):
    with tempfile.TemporaryDirectory() as folder:
        b = Bench(args, folder)
        try:
            b.start(f"{args.bin}/headrace-provider", "--bind", "127.0.0.1:0", "--port-file", f"{folder}/port")
            port = wait_for("provider", lambda: (os.path.exists(f"{folder}/port") and
                                                 open(f"{folder}/port").read().strip()) or None)
            write_models(f"{folder}/m.sql", f"http://127.0.0.1:{port}/v1/chat/completions", args.batch)
            write_rows(f"{folder}/rows.jsonl", n)
            modes = ["always", "everysec", "none"]
            rates = {mode: [] for mode in modes}
            for _ in range(args.rounds):
                for mode in modes:
                    began = time.monotonic()
                    done = subprocess.run([f"{args.bin}/headrace", "run", "-f", f"{folder}/m.sql", "-m", "m", "-i",
                                           f"{folder}/rows.jsonl", "-o", "/dev/null", "--durability", mode, "-q"])
                    if done.returncode != 0:
                        sys.exit(f"run with durability {mode} failed")
                    rates[mode].append(n / (time.monotonic() - began))
            base = statistics.median(rates["always"])
            print(f"\nthroughput, {n} records, batch.size {args.batch}, median of {args.rounds} alternating runs")
            for mode in modes:
                m = statistics.median(rates[mode])
                print(f"  durability {mode:<10} {m:10.0f} records/s   {m / base:5.2f} x always")
        finally:
            b.stop()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--records", type=int, default=1_000_000)
    p.add_argument("--batch", type=int, default=20)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--bin", default=os.environ.get("HEADRACE_BIN", os.path.join(ROOT, "build/bin")))
    args = p.parse_args()
    found = recovery(args)
    throughput(args)
    print(f"machine: {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}; everything on it, "
          "the provider simulator too")
    return 0 if found else 1


sys.exit(main())
