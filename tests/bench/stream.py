#!/usr/bin/env python3
"""Runs a long stream of records through `headrace run` and prints the memory of every process.

The records come from standard input and the results go to /dev/null, so nothing but headrace itself can
grow. Each process's resident memory is printed at every tenth of the stream; the last rows are the peaks
(VmHWM) at a tenth and at the end: constant memory means that the two are alike.

    tests/bench/stream.py [--records 2000000] [--batch 20] [--bin build/bin]
"""
import argparse
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def status_of(pid):
    """Name, parent, resident and peak memory in MB of a process, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/status") as f:
            fields = dict(line.split(":", 1) for line in f)
        return (fields["Name"].strip(), int(fields["PPid"]),
                int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024)
    except (OSError, KeyError):
        return None


def family(root):
    """The processes of a tree: pid -> (name, rss, peak)."""
    known = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            s = status_of(int(name))
            if s:
                known[int(name)] = s
    wanted = {root}
    while True:
        more = {p for p, s in known.items() if s[1] in wanted} - wanted
        if not more:
            break
        wanted |= more
    return {p: (known[p][0], known[p][2], known[p][3]) for p in sorted(wanted) if p in known}


def feed(pipe, n_records, sample, progress):
    rows = [line.rstrip(b"\n") for line in open(sample, "rb") if line.strip()]
    chunk, done = [], 0
    try:
        while done < n_records:
            chunk = rows[:min(len(rows), n_records - done)]
            pipe.write(b"\n".join(chunk) + b"\n")
            done += len(chunk)
            progress[0] = done
        pipe.close()
    except BrokenPipeError:
        pass


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--records", type=int, default=2_000_000)
    p.add_argument("--batch", type=int, default=20)
    p.add_argument("--bin", default=os.environ.get("HEADRACE_BIN", os.path.join(ROOT, "build/bin")))
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        port_file = os.path.join(tmp, "port")
        provider = subprocess.Popen([f"{a.bin}/headrace-provider", "--bind", "127.0.0.1:0", "--port-file",
                                     port_file], stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while not (os.path.exists(port_file) and open(port_file).read().strip()):
                if time.monotonic() > deadline:
                    sys.exit("the provider simulator did not start")
                time.sleep(0.02)
            return run(a, provider, open(port_file).read().strip())
        finally:
            provider.terminate()
            provider.wait()


def run(a, provider, port):
    env = dict(os.environ, OPENAI_API_KEY="simulated")
    started = time.monotonic()
    child = subprocess.Popen(
        [f"{a.bin}/headrace", "run", "-f", f"{ROOT}/samples/models.sql", "-m", "llm_sentiment", "-i", "-",
         "-o", "/dev/null", "--set", f"endpoint=http://127.0.0.1:{port}/v1/chat/completions",
         "--set", f"batch.size={a.batch}"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    progress = [0]
    threading.Thread(target=feed, args=(child.stdin, a.records, f"{ROOT}/samples/reviews.jsonl", progress),
                     daemon=True).start()
    tail = []
    threading.Thread(target=lambda: tail.extend(child.stderr), daemon=True).start()
    early, last, next_tenth = None, {}, 1
    print(f"{'fed':>10}  {'seconds':>8}  resident MB")
    while child.poll() is None:
        time.sleep(0.2)
        now = family(child.pid)
        s = status_of(provider.pid)
        if s:
            now[provider.pid] = (s[0], s[2], s[3])
        last = {**last, **{p: v for p, v in now.items() if p in now}}
        if progress[0] * 10 >= a.records * next_tenth:
            print(f"{progress[0]:>10}  {time.monotonic() - started:8.1f}  " +
                  "  ".join(f"{name} {rss:.0f}" for name, rss, _ in now.values()), flush=True)
            early = early or {p: peak for p, (_, _, peak) in now.items()}
            next_tenth = progress[0] * 10 // a.records + 1
    took = time.monotonic() - started
    print(f"\n{'process':<24}{'peak MB at a tenth':>20}{'peak MB at the end':>20}")
    for pid, (name, _, peak) in last.items():
        print(f"{name:<24}{(early or {}).get(pid, float('nan')):>20.1f}{peak:>20.1f}")
    print(f"\n{a.records} records, batch.size={a.batch}: {took:.1f} s, {a.records / took:.0f} records/s, "
          f"exit status {child.returncode}")
    print(f"machine: {os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}; "
          "everything on it, the provider simulator too")
    sys.stdout.buffer.write(b"".join(tail[-12:]))
    return child.returncode


sys.exit(main())
