"""What coordination costs at batch.size 1, 20 and 100: processor time a record in coordinator, worker and Redis, Redis's
operations a batch, bytes a record between the processes. What a call and what a record costs follows from the three."""
import subprocess

import kit

BATCH = 20               # of the goal
RECORDS = {1: 60_000, 20: 400_000, 100: 400_000}


def redis_info(socket, section):
    done = subprocess.run(["redis-cli", "-s", socket, "info", section], capture_output=True, text=True, check=True)
    return dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)


def sent_between(port):
    """Bytes that TCP connections at a port of ours have carried, both ways together."""
    done = subprocess.run(["ss", "-Htin", "sport", "=", f":{port}"], capture_output=True, text=True, check=True)
    words = done.stdout.replace("\n", " ").split()
    return sum(int(w.split(":")[1]) for w in words if w.startswith(("bytes_received:", "bytes_sent:")))


def one_round(box, batch, n, i):
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
    model = kit.write_model(f"{box.folder}/m.sql", port, batch)
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
    figures["Redis commands a batch, with those of scripts"] = (int(stats["total_commands_processed"]) - calls) * batch / n
    figures["bytes a record to and from Redis"] = (sum(
        int(stats[k]) for k in ("total_net_input_bytes", "total_net_output_bytes")) - net) / n
    figures["bytes a record between coordinator and worker"] = (sent_between(free) - wire) / n
    figures["records/s meanwhile"] = n / seconds
    for child in (worker, coordinator, redis, provider):
        box.end(child)
    return figures


def straight(points):
    """Least squares: y = call / batch + record. Returns call, record."""
    xs, ys = [1 / batch for batch, _ in points], [y for _, y in points]
    x0, y0 = sum(xs) / len(xs), sum(ys) / len(ys)
    call = sum((x - x0) * (y - y0) for x, y in zip(xs, ys)) / sum((x - x0) ** 2 for x in xs)
    return call, y0 - call * x0


def bench(box, out, rounds, quick):
    report = kit.Report("coordination", out)
    found = {batch: [] for batch in RECORDS}
    for i in range(1 if quick else rounds):
        for batch, n in RECORDS.items():
            found[batch].append(one_round(box, batch, n // 20 if quick else n, f"{i}-{batch}"))
    mid = {batch: {name: kit.median([f[name] for f in figures]) for name in figures[0]} for batch, figures in found.items()}
    report.table("one worker, appendfsync always; medians", ["", *(f"batch.size {batch}" for batch in RECORDS)], [
        [name, *(mid[batch][name] for batch in RECORDS)] for name in mid[BATCH]])
    report.table("From the three: CPU us a call and a record", ["", "a call", "and a record"], [
        [part, *straight([(batch, mid[batch][f"{part}, CPU us a record"]) for batch in RECORDS])]
        for part in ("coordinator", "worker", "redis")])
    kit.lines(f"{out}/coordination.svg", "Processor time a record", "batch.size", "us", {
        part: [(batch, mid[batch][f"{part}, CPU us a record"]) for batch in RECORDS]
        for part in ("all three", "coordinator", "worker", "redis")})
    us = mid[BATCH]["all three, CPU us a record"]
    report.goal("CPU us a record in coordinator, worker and Redis at batch.size 20 (at most 15)", f"{us:.1f}", us <= 15)
    return report.goals
