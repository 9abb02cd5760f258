"""What coordination costs at batch.size 20: processor time a record in coordinator, worker and Redis, Redis's
operations a batch, bytes a record between the processes."""
import subprocess

import kit

BATCH = 20


def redis_info(socket, section):
    done = subprocess.run(["redis-cli", "-s", socket, "info", section], capture_output=True, text=True, check=True)
    return dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)


def sent_between(port):
    """Bytes that TCP connections at a port of ours have carried, both ways together."""
    done = subprocess.run(["ss", "-Htin", "sport", "=", f":{port}"], capture_output=True, text=True, check=True)
    words = done.stdout.replace("\n", " ").split()
    return sum(int(w.split(":")[1]) for w in words if w.startswith(("bytes_received:", "bytes_sent:")))


def one_round(box, n, i):
    import socket
    with socket.socket() as s:  # the port that the coordinator gets
        s.bind(("127.0.0.1", 0))
        free = s.getsockname()[1]
    provider, port = box.simulator(f"provider{i}", ledger=False)
    redis, address = box.redis(f"redis{i}", True)
    ipc = f"ipc://{box.folder}/coordinator{i}"
    coordinator, at = box.coordinator(f"coordinator{i}", address, "always", "--bind", f"tcp://127.0.0.1:{free}", address=ipc)
    worker = box.start(f"worker{i}", "headrace-worker", "--coordinator", f"tcp://127.0.0.1:{free}")
    kit.wait_for("the worker", lambda: box.ask(at, "status").get("workers"))
    model = kit.write_model(f"{box.folder}/m.sql", port, BATCH)
    kit.send(box, at, model, kit.write_rows(f"{box.folder}/warm.jsonl", 2000), 2000, "warm")
    rows = kit.write_rows(f"{box.folder}/rows.jsonl", n)
    parts = {"coordinator": coordinator, "worker": worker, "redis": redis}
    unix = address[len("unix:"):]
    before = {name: kit.cpu_s(part.pid) for name, part in parts.items()}
    calls = int(redis_info(unix, "stats")["total_commands_processed"])
    net = sum(int(redis_info(unix, "stats")[k]) for k in ("total_net_input_bytes", "total_net_output_bytes"))
    wire = sent_between(free)
    seconds = kit.send(box, at, model, rows, n, "rows")
    figures = {f"{name}, CPU us a record": 1e6 * (kit.cpu_s(part.pid) - before[name]) / n for name, part in parts.items()}
    figures["all three, CPU us a record"] = sum(figures.values())
    stats = redis_info(unix, "stats")
    figures["Redis commands a batch, with those of scripts"] = (int(stats["total_commands_processed"]) - calls) * BATCH / n
    figures["bytes a record to and from Redis"] = (sum(
        int(stats[k]) for k in ("total_net_input_bytes", "total_net_output_bytes")) - net) / n
    figures["bytes a record between coordinator and worker"] = (sent_between(free) - wire) / n
    figures["records/s meanwhile"] = n / seconds
    for child in (worker, coordinator, redis, provider):
        box.end(child)
    return figures


def bench(box, out, rounds, quick):
    report = kit.Report("coordination", out)
    n = 20_000 if quick else 400_000
    found = [one_round(box, n, i) for i in range(1 if quick else rounds)]
    report.table(f"{n:,} records, batch.size {BATCH}, one worker, appendfsync always", ["", "median", "least", "most"], [
        [name, kit.median([f[name] for f in found]), min(f[name] for f in found), max(f[name] for f in found)]
        for name in found[0]])
    us = kit.median([f["all three, CPU us a record"] for f in found])
    report.goal("CPU us a record in coordinator, worker and Redis at batch.size 20 (at most 15)", f"{us:.1f}", us <= 15)
    return report.goals
