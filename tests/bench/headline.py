"""The batching proposal's own example: 10,000 reviews, 200 ms a call of one and 300 ms a call of twenty,
$0.002 and $0.006 a call. It promises 2,000 s -> 150 s, 10,000 -> 500 calls, $20 -> $3. One worker, no limits."""
import json

import kit

PROMISE = {1: (2000, 10000, 20.0), 20: (150, 500, 3.0)}
LATENCY = ("--latency-ms", 195, "--latency-per-item-ms", 5)  # 200 ms a call of 1, 295 ms a call of 20


def price_of(batch):
    """A straight line through the proposal's two prices."""
    return 0.002 + (0.006 - 0.002) * (batch - 1) / 19


def measure(box, port, batch, rows, n, name, **prices):
    model = kit.write_model(f"{box.folder}/{name}.sql", port, batch, **prices)
    before = len(box.ledger("provider"))
    seconds = kit.run(box, model, rows, f"{box.folder}/{name}.jsonl", "--meta")
    right = n_rows = 0
    cost, calls = 0.0, set()
    with open(f"{box.folder}/{name}.jsonl") as f:
        for row in map(json.loads, f):
            n_rows += 1
            right += row["sentiment"] == row["label"]
            cost += row["meta"]["cost"]
            calls.add((row["meta"]["batch"], row["meta"]["call"]))
    return {"seconds": seconds, "calls": len(box.ledger("provider")) - before, "cost": cost, "rows": n_rows,
            "right": right / n_rows}


def bench(box, out, rounds, quick):
    report = kit.Report("headline", out)
    n = 1000 if quick else 10000
    rows = kit.write_rows(f"{box.folder}/rows.jsonl", n)
    provider, port = box.simulator("provider", *LATENCY)
    sizes = (1, 20) if quick else (1, 5, 10, 20, 50, 100)
    found = {batch: [] for batch in sizes}
    for _ in range(rounds):
        for batch in sizes:
            found[batch].append(measure(box, port, batch, rows, n, "m", **{"price.call": f"{price_of(batch):.6f}"}))
    real = {batch: measure(box, port, batch, rows, n, "m") for batch in sizes}
    box.end(provider)
    table = []
    for batch in sizes:
        seconds, one = kit.median([f["seconds"] for f in found[batch]]), found[batch][0]
        promise = PROMISE.get(batch)
        scale = n / 10000
        table.append([batch, seconds, promise[0] * scale if promise else "", one["calls"], promise[1] * scale if promise else "",
                      one["cost"], promise[2] * scale if promise else "", real[batch]["cost"], one["rows"],
                      f"{100 * one['right']:.1f} %"])
        if any(f["calls"] != one["calls"] for f in found[batch]):
            report.goal(f"the same calls in every round, batch.size={batch}", "they differ", False)
    report.table(f"{n:,} reviews, one worker, no limit given", [
        "batch.size", "seconds", "promised", "calls", "promised", "USD, as assumed", "promised", "USD, gpt-5.4-mini's tokens",
        "rows", "as labelled"], table)
    twenty = found[20]
    seconds = kit.median([f["seconds"] for f in twenty])
    report.goal("10,000 reviews at batch.size 20, seconds (at most 4)", f"{seconds:.2f}", seconds <= 4)
    report.goal("calls (500)", twenty[0]["calls"], twenty[0]["calls"] == n // 20)
    kit.bars(f"{out}/headline.svg", f"{n:,} reviews: seconds", [
        ("as proposed, one by one", 2000 * n / 10000, f"{2000 * n / 10000:,.0f} s"),
        ("as proposed, twenty a call", 150 * n / 10000, f"{150 * n / 10000:,.0f} s"),
        *[(f"headrace, batch.size {row[0]}", row[1], f"{row[1]:.2f} s, {row[3]:,} calls") for row in table]],
        "seconds, less is better")
    return report.goals
