"""Jobs at the four batch APIs against calls: 10,000 reviews, with and without prompt batching: whether every row is
right, and what the simulator's ledger bills. And 1,000,000 records in 20 jobs: the memory of each process."""
import collections
import json
import subprocess
import threading
import time

import kit

PLACES = {"openai": ("/v1", "gpt-5.4-mini"), "azure-openai": ("/openai/v1", "gpt-5.4-mini"),
          "anthropic": ("/v1", "claude-haiku-4-5"), "gemini": ("/v1beta", "gemini-2.5-flash")}
PRICE = {"input": 1.0, "output": 4.0}  # USD a million tokens, the same for all, to weigh the ledger's tokens


def write_model(box, provider, port, batch, mode, **more):
    place, name = PLACES[provider]
    return kit.write_model(f"{box.folder}/m.sql", port, batch, **{
        "provider": provider, "endpoint": f"http://127.0.0.1:{port}{place}", "model": name, "max.tokens": 4096, "mode": mode,
        "batch.job.poll": 200, "batch.job.timeout": 2000, **more})


def billed(lines):
    """Calls that were billed, and USD of the ledger's tokens at the share of the price that the ledger says."""
    paid = [line for line in lines if line.get("input_tokens", 0) > 0 and line["status"] == 200]
    usd = sum(line.get("price", 1) * (line["input_tokens"] * PRICE["input"] + line["output_tokens"] * PRICE["output"])
              for line in paid)
    twice = collections.Counter(record for line in paid for record in line["records"])
    return len(paid), usd / 1e6, sum(n - 1 for n in twice.values())


def ask(box, provider, batch, mode, rows, name):
    _, port = box.simulator(name, "--batch-time", "3s")
    out = f"{box.folder}/{name}.jsonl"
    seconds = kit.run(box, write_model(box, provider, port, batch, mode), rows, out, "--state", f"{box.folder}/{name}.state")
    with open(out) as f:
        found = {row["id"]: row["sentiment"] for row in map(json.loads, f)}
    jobs = sum(1 for line in box.ledger(name) if line.get("batch", {}).get("op") == "create" and line["status"] == 200)
    box.end(box.children[-1])
    return found, seconds, jobs, *billed(box.ledger(name))


def by_provider(box, report, n, quick):
    # Each review once: texts that are alike could not be told apart in the ledger.
    texts = kit.reviews()
    rows = f"{box.folder}/rows.jsonl"
    with open(rows, "w") as f:
        for i in range(n):
            f.write(json.dumps({"id": f"r{i}", "text": f"{texts[i % len(texts)]['text']} ({i})"}) + "\n")
    done = subprocess.run([f"{box.bin}/headrace-provider", "--answer", "-"], capture_output=True, text=True, check=True,
                          input="".join(json.loads(line)["text"] + "\n" for line in open(rows)))
    want = {f"r{i}": answer for i, answer in enumerate(done.stdout.splitlines())}
    table, all_right, ratios = [], True, []
    for provider in PLACES:
        for batch in (20,) if quick else (1, 20):
            calls = ask(box, provider, batch, "online", rows, f"{provider}-{batch}-calls")
            jobs = ask(box, provider, batch, "batch", rows, f"{provider}-{batch}-jobs")
            wrong = sum(jobs[0].get(id) != answer for id, answer in want.items())
            all_right = all_right and wrong == 0 and jobs[5] == 0 and len(jobs[0]) == n
            ratios.append(jobs[4] / calls[4])
            table.append([provider, batch, len(jobs[0]), wrong, jobs[2], jobs[3], jobs[5], jobs[4], calls[4], ratios[-1],
                          jobs[1]])
    report.table(f"{n:,} reviews, each job takes 3 s at the simulator", [
        "provider", "batch.size", "rows", "wrong", "jobs", "lines billed", "records billed twice", "USD by the ledger",
        "USD as calls", "ratio", "seconds"], table)
    report.goal("rows right and no record billed twice, in jobs of all four APIs", "all" if all_right else "not all", all_right)
    report.goal("the bill of jobs, times that of calls (0.5)", f"{min(ratios):.4f} to {max(ratios):.4f}",
                all(abs(r - 0.5) < 0.005 for r in ratios))


def memory(box, report, n, n_jobs):
    """n records, a line each, through n_jobs jobs, two at once."""
    simulator, port = box.simulator("large", "--batch-time", "1s", ledger=False)
    rows = kit.write_rows(f"{box.folder}/many.jsonl", n)
    model = write_model(box, "openai", port, 1, "batch", **{
        "batch.job.rows": n // n_jobs, "batch.job.concurrency": 2, "batch.job.timeout": 600000})
    begin = time.monotonic()
    child = subprocess.Popen([f"{box.bin}/headrace", "run", "-f", model, "-m", "m", "-i", rows, "-o", f"{box.folder}/many-out.jsonl",
                              "--state", f"{box.folder}/many.state", "--quiet"], env=box.env)
    samples, done = [], threading.Event()

    def watch():
        while not done.wait(0.5):
            now = {}
            for name, pid in {"headrace": child.pid, **kit.children_of(child.pid), "provider": simulator.pid}.items():
                try:
                    now[name] = kit.memory_kb(pid, "VmRSS") / 1000
                except (OSError, StopIteration):
                    pass
            samples.append(now)
    watcher = threading.Thread(target=watch)
    watcher.start()
    status = child.wait()
    done.set()
    watcher.join()
    if status != 0:
        raise SystemExit(f"headrace run in jobs: status {status}")
    seconds = time.monotonic() - begin
    names, grew = ("headrace", "headrace-coordi", "headrace-worker", "redis-server", "provider"), []
    table = []
    for name in names:
        values = [s[name] for s in samples if name in s]
        half = len(values) // 2
        first, second = max(values[:half] or [0]), max(values[half:] or [0])
        table.append([name, first, second])
        if name != "redis-server":
            grew.append(second / first if first > 0 else 1)
    report.table(f"{n:,} records in {n_jobs} jobs, two at once, {seconds:.0f} s: peak resident MB", [
        "process", "first half", "second half"], table)
    report.goal("memory in the second half of a million records, times the first (at most 1.25)", f"{max(grew):.2f}",
                max(grew) <= 1.25)


def bench(box, out, rounds, quick):
    report = kit.Report("jobs", out)
    by_provider(box, report, 1000 if quick else 10_000, quick)
    memory(box, report, 40_000 if quick else 1_000_000, 20)
    return report.goals
