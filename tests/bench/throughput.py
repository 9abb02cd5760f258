"""Records a second from file to file, the provider answering at once, at batch.size 1, 20 and 100, durable
(appendfsync always). Beside it, one call a record: BullMQ (npm), Celery (python3-celery), an asyncio script
(python3-aiohttp) with nothing durable, and wrk against the same server: the limit of the machine.

A peer that is not installed is named and left out: apt-get install python3-celery python3-aiohttp wrk nodejs npm
"""
import json
import os
import shutil
import subprocess
import sys
import time

import kit

PEERS = f"{kit.ROOT}/tests/bench/peers"
PYTHON = "/usr/bin/python3"  # whose packages are Debian's


def body_of(text):
    return json.dumps({"model": "gpt-5.4-mini", "messages": [
        {"role": "system", "content": "You are a sentiment analyzer. Always respond with valid JSON."},
        {"role": "user", "content": 'Analyze sentiment. Return JSON: {"sentiment": "<positive|negative|neutral>"}\n\n' + text}]})


def wrk(box, port):
    """Calls a second of wrk with a body of ours: what the server and the machine can do."""
    script = f"{box.folder}/post.lua"
    with open(script, "w") as f:
        f.write('wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
                'wrk.headers["Authorization"] = "Bearer k"\nwrk.body = ' + json.dumps(body_of("The mic is great.")) + "\n")
    done = subprocess.run(["wrk", "-t1", "-c64", "-d5", "-s", script, f"http://127.0.0.1:{port}/v1/chat/completions"],
                          capture_output=True, text=True, check=True)
    return float(next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("Requests/sec")))


def peer(box, name, argv, n):
    """A peer prints the seconds from its first row to its last answer, and how many answers it has."""
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                          cwd=box.folder)
    if done.returncode != 0:
        sys.exit(f"{name}: status {done.returncode}\n{done.stderr[-2000:]}")
    seconds, answers = done.stdout.split()[-2:]
    if int(answers) != n:
        sys.exit(f"{name}: {answers} answers to {n} rows")
    return n / float(seconds)


def bullmq(box):
    """Installs BullMQ from npm into the bench's folder; None: there is no node, or no registry."""
    if not shutil.which("node") or not shutil.which("npm"):
        return None
    folder = f"{box.folder}/bullmq"
    os.makedirs(folder)
    shutil.copy(f"{PEERS}/bullmq.mjs", folder)
    done = subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "bullmq", "ioredis"], cwd=folder, capture_output=True)
    return f"{folder}/bullmq.mjs" if done.returncode == 0 else None


def has_python(module):
    return subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True).returncode == 0


def bench(box, out, rounds, quick):
    report = kit.Report("throughput", out)
    _, port = box.simulator("provider", ledger=False)
    redis, address = box.redis("peers", True)
    url, unix = f"http://127.0.0.1:{port}/v1/chat/completions", address[len("unix:"):]
    sizes = {1: 5_000, 20: 20_000, 100: 20_000} if quick else {1: 60_000, 20: 1_000_000, 100: 1_000_000}
    n_peer = 1_000 if quick else 10_000
    few = kit.write_rows(f"{box.folder}/few.jsonl", n_peer)
    rows = {batch: kit.write_rows(f"{box.folder}/rows{batch}.jsonl", n) for batch, n in sizes.items()}

    def ours(batch):
        model = kit.write_model(f"{box.folder}/m.sql", port, batch)
        return sizes[batch] / kit.run(box, model, rows[batch], f"{box.folder}/out.jsonl")
    cases = {f"headrace, batch.size {batch}": (lambda batch=batch: ours(batch)) for batch in sizes}
    missing = []
    script = bullmq(box)
    for name, there, argv in (
            ("BullMQ", script, ["node", script or "", unix, url, few]),
            ("Celery", has_python("celery"), [PYTHON, f"{PEERS}/celery_run.py", unix, url, few]),
            ("asyncio and aiohttp", has_python("aiohttp"), [PYTHON, f"{PEERS}/asyncio_run.py", url, few])):
        if there:
            cases[name] = lambda name=name, argv=argv: peer(box, name, argv, n_peer)
        else:
            missing.append(name)
    if shutil.which("wrk"):
        cases["wrk, calls"] = lambda: wrk(box, port)
    else:
        missing.append("wrk")
    found = kit.alternate(1 if quick else rounds, cases)
    one = kit.median(found["headrace, batch.size 1"])
    rates = {name: kit.median(values) for name, values in found.items()}
    report.table("Records a second, file to file" + (f" (not here: {', '.join(missing)})" if missing else ""),
                 ["", "times headrace at 1", "records/s", "least", "most"],
                 [[name, rates[name] / one, rates[name], min(v), max(v)] for name, v in found.items()])
    kit.bars(f"{out}/throughput.svg", "Records a second, file to file, the provider answering at once",
             [(name, rate, f"{rate:,.0f}") for name, rate in rates.items()], "records a second, more is better")
    report.goal("records/s at batch.size 1 (at least 12,000)", f"{one:,.0f}", one >= 12000)
    twenty = rates["headrace, batch.size 20"]
    report.goal("records/s at batch.size 20 (at least 100,000)", f"{twenty:,.0f}", twenty >= 100000)
    return report.goals
