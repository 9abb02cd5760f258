"""What a run costs: estimated before it, counted during it, bounded by a budget."""
import json
import re

import pytest
from conftest import (KEY, SAMPLE, Coordinator, Simulator, Worker, make_models, make_tags, read_jsonl, wait_for,
                      write_jsonl)


def run(box, models, *options, input=None, model="llm_sentiment"):
    return box.run("headrace", "run", "-f", models, "-m", model, *options, input=input,
                   env={**box.env, "OPENAI_API_KEY": KEY})


def table(done):
    """The numbers of a dry run: {'calls': [batched, one by one], ...}."""
    lines = {}
    for line in done.stdout.decode().splitlines():
        match = re.match(r"  (records|calls|input tokens|output tokens|cost|time at the limits)  +(.*)", line)
        if match:
            cells = [c for c in re.split(r"  +", match[2]) if re.fullmatch(r"\$?[\d,.]+", c)]
            lines[match[1]] = [float(c.replace(",", "").replace("$", "")) for c in cells]
    return lines


def near(estimate, real, share):
    assert abs(estimate - real) <= share * real, (estimate, real)


# ---- Before: --dry-run ----------------------------------------------------------------------------

@pytest.mark.parametrize("size", [20, 7, 1])
def test_a_dry_run_says_what_the_run_then_takes(box, simulator, size):
    models = make_models(box, simulator.url, **{"batch_size": size, "batch_timeout_ms": 30000})
    dry = run(box, models, "-i", SAMPLE, "--dry-run")
    assert dry.returncode == 0, dry.stderr.decode()
    assert simulator.calls() == [] and [p.name for p in box.path.iterdir() if "headrace" in p.name] == []
    said = table(dry)
    done = run(box, models, "-i", SAMPLE, "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr.decode()
    ledger = simulator.calls()
    assert said["records"] == [sum(call["items"] for call in ledger)]
    assert said["calls"] == ([len(ledger), 300] if size > 1 else [300])
    near(said["input tokens"][0], sum(call["input_tokens"] for call in ledger), 0.02)
    near(said["output tokens"][0], sum(call["output_tokens"] for call in ledger), 0.3)


def test_a_dry_run_counts_one_by_one_as_well(box, simulator, models):
    said = table(run(box, models, "-i", SAMPLE, "--dry-run"))
    done = run(box, models, "-i", SAMPLE, "-o", "out.jsonl", "--set", "batch.size=1")
    assert done.returncode == 0, done.stderr.decode()
    ledger = simulator.calls()
    assert said["calls"][1] == len(ledger)
    near(said["input tokens"][1], sum(call["input_tokens"] for call in ledger), 0.02)


def test_a_dry_run_follows_partitions_and_token_bounds(box, simulator):
    models = make_models(box, simulator.url, **{"batch_timeout_ms": 30000, "batch_max_tokens": 300})
    options = ["-i", SAMPLE, "--partitions", 3]
    said = table(run(box, models, *options, "--dry-run"))
    done = run(box, models, *options, "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr.decode()
    assert said["calls"][0] == len(simulator.calls())


def test_a_dry_run_needs_no_key_and_lists_rows_that_cannot_be_asked(box):
    models = make_models(box, "http://127.0.0.1:1/v1/chat/completions")
    rows = ['{"id":"a","text":"fine"}', "not json", '{"id":"b"}', '{"id":"c","text":["x"]}']
    (box.path / "in.jsonl").write_text("\n".join(rows) + "\n")
    done = box.run("headrace", "run", "-f", models, "-m", "llm_sentiment", "-i", "in.jsonl", "--dry-run")
    assert done.returncode == 1
    assert table(done)["records"] == [1] and table(done)["calls"] == [1, 1]
    assert b"3 cannot be asked" in done.stdout
    said = done.stderr.decode()
    assert "in.jsonl:2" in said and "in.jsonl:4" in said
    assert not (box.path / "out.jsonl").exists()


def test_a_dry_run_tells_cost_and_time_by_the_limit_that_binds(box):
    models = make_models(box, "http://127.0.0.1:1/v1/chat/completions",
                         **{"limit_rpm": 3, "limit_tpm": 1000000, "price_call": "0.002"})
    done = run(box, models, "-i", SAMPLE, "--dry-run")
    said = done.stdout.decode()
    assert table(done)["cost"] == [0.03, 0.6]
    assert re.search(r"time at the limits +5 min +100 min +limit.rpm", said), said
    plain = run(box, make_models(box, "http://127.0.0.1:1/v1"), "-i", SAMPLE, "--dry-run").stdout.decode()
    assert "no limit given" in plain


def test_a_run_needs_an_output_and_says_so(box, models):
    done = run(box, models, "-i", SAMPLE)
    assert done.returncode == 2 and b"--output" in done.stderr


# ---- Prices ---------------------------------------------------------------------------------------

PRICES = "provider,model,as_of,input,output\nopenai,gpt-5.4-*,2026-11-20,%s,2\n"


def test_a_price_file_goes_before_the_built_in_one(box, simulator, models):
    (box.path / "prices.csv").write_text(PRICES % "1000")
    done = run(box, models, "-i", SAMPLE, "-o", "out.jsonl", "--meta", "--prices", "prices.csv")
    assert done.returncode == 0, done.stderr.decode()
    ledger = simulator.calls()
    usd = sum(call["input_tokens"] * 1000 + call["output_tokens"] * 2 for call in ledger) / 1e6
    near(sum(row["meta"]["cost"] for row in read_jsonl(box.path / "out.jsonl")), usd, 1e-6)
    assert f"${usd:.4f}" in done.stderr.decode() and "as of 2026-11-20" in done.stderr.decode()


def test_a_bad_price_file_is_refused_by_its_line(box, models):
    (box.path / "prices.csv").write_text(PRICES % "cheap")
    done = run(box, models, "-i", SAMPLE, "-o", "out.jsonl", "--prices", "prices.csv")
    assert done.returncode == 2
    assert b"prices.csv:2: input: got 'cheap', want USD per million tokens" in done.stderr


def test_an_unknown_price_is_unknown_and_not_nothing(box, simulator):
    models = make_models(box, simulator.url, model="a-model-of-my-own")
    done = run(box, models, "-i", SAMPLE, "-o", "out.jsonl", "--meta")
    assert done.returncode == 0, done.stderr.decode()
    assert {row["meta"]["cost"] for row in read_jsonl(box.path / "out.jsonl")} == {None}
    assert done.stderr.decode().count("no price of this model is known") == 1


# ---- A budget -------------------------------------------------------------------------------------

def usd_of(ledger, per_in=0.75, per_out=4.5):
    return sum(call["input_tokens"] * per_in + call["output_tokens"] * per_out for call in ledger) / 1e6


def numbered(given, n):
    return [{**given[i % len(given)], "id": f"row-{i}", "text": f"{i} {given[i % len(given)]['text']}"}
            for i in range(n)]


def test_a_run_stops_before_its_budget_and_goes_on_with_a_bigger_one(box, reviews):
    simulator = Simulator(box, "--latency-ms", "20")
    given = numbered(reviews, 2000)
    models = make_tags(box, simulator.url)
    source = write_jsonl(box.path / "in.jsonl", given)
    done = run(box, models, "-i", source, "-o", "out.jsonl", "--state", "state", "--budget-usd", "0.06",
               model="tag")
    assert done.returncode == 6, done.stderr.decode()
    said = done.stderr.decode()
    assert "the budget of $0.06 of 'run' is used up" in said and "stopped by the budget" in said
    assert "--resume --state" in said and "--budget-usd MORE" in said
    spent = usd_of(simulator.calls())
    assert 0.04 < spent <= 0.06, said
    rows = read_jsonl(box.path / "out.jsonl")
    assert len(rows) == sum(call["items"] for call in simulator.calls())
    assert [row["id"] for row in rows] == [row["id"] for row in given[:len(rows)]]
    assert all(row["error"] is None for row in rows)
    # Nothing more is spent with the same budget.
    again = run(box, models, "-i", source, "-o", "out.jsonl", "--state", "state", "--budget-usd", "0.06",
                model="tag")
    assert again.returncode == 6 and usd_of(simulator.calls()) <= 0.06
    # More money, and the rest is asked; nothing is asked twice.
    rest = box.run("headrace", "run", "--resume", "--state", "state", "--budget-usd", "5",
                   env={**box.env, "OPENAI_API_KEY": KEY})
    assert rest.returncode == 0, rest.stderr.decode()
    rows = read_jsonl(box.path / "out.jsonl")
    assert [row["id"] for row in rows] == [row["id"] for row in given]
    assert sum(call["items"] for call in simulator.calls()) == len(given)
    assert f"${usd_of(simulator.calls()):.4f}" in rest.stderr.decode()


def test_a_price_by_call_is_kept_to_the_call(box, simulator, reviews):
    models = make_tags(box, simulator.url, ", 'price.call' = '0.002'")
    source = write_jsonl(box.path / "in.jsonl", numbered(reviews, 200))
    done = run(box, models, "-i", source, "-o", "out.jsonl", "--budget-usd", "0.0141", model="tag")
    assert done.returncode == 6, done.stderr.decode()
    assert len(simulator.calls()) == 7
    assert len(read_jsonl(box.path / "out.jsonl")) == 140


def test_a_budget_that_is_enough_changes_nothing(box, simulator, models):
    done = run(box, models, "-i", SAMPLE, "-o", "out.jsonl", "--budget-usd", "1")
    assert done.returncode == 0, done.stderr.decode()
    assert len(simulator.calls()) <= 17


def test_a_budget_of_a_day_stops_a_run(box, simulator, reviews):
    models = make_tags(box, simulator.url, ", 'price.call' = '0.01', 'budget.usd.day' = '0.05'")
    source = write_jsonl(box.path / "in.jsonl", numbered(reviews, 200))
    done = run(box, models, "-i", source, "-o", "out.jsonl", model="tag")
    assert done.returncode == 6, done.stderr.decode()
    assert "the budget of $0.05 a day of 'tag' is used up" in done.stderr.decode()
    assert len(simulator.calls()) == 5, done.stderr.decode()


def test_a_budget_of_a_day_holds_for_coordinators_of_two_namespaces_together(box, redis, simulator, reviews):
    models = make_tags(box, simulator.url, ", 'price.call' = '0.01', 'budget.usd.day' = '0.2'")
    source = write_jsonl(box.path / "in.jsonl", numbered(reviews, 1000))
    both = []
    for name in ("left", "right"):
        c = Coordinator(box, redis, "--models", models, "--model", "tag", "--namespace", name, name=name)
        Worker(box, c, name=f"{name}-worker")
        out = box.path / f"{name}.out"
        box.start(f"{name}-collect", box.bin / "headrace", "collect", "-c", c.address, "-o", out, "--consumer", "c",
                  "--quiet")
        box.start(f"{name}-submit", box.bin / "headrace", "submit", "-c", c.address, "-m", "tag", "-i", source)
        both.append((c, out))

    def is_used_up(c):
        done = box.run("headrace", "status", "-c", c.address)
        return done.returncode == 0 and json.loads(done.stdout)["budget"]
    wait_for("the budget is used up", lambda: all([is_used_up(c) for c, _ in both]), interval=0.2)
    wait_for("all that was paid for", lambda: sum(len(read_jsonl(out)) for _, out in both) ==
             sum(call["items"] for call in simulator.calls()))
    assert 10 <= len(simulator.calls()) <= 20  # what one has claimed the other cannot spend


@pytest.mark.parametrize("options, words", [
    (["--budget-usd", "much"], "--budget-usd: got 'much', want USD"),
    (["--budget-usd", "-1"], "--budget-usd: got '-1', want USD"),
    (["--budget-usd", "5", "--set", "model=mine"], "a budget needs a price"),
])
def test_a_budget_that_cannot_be_kept_is_refused(box, models, options, words):
    done = run(box, models, "-i", SAMPLE, "-o", "out.jsonl", *options)
    assert done.returncode == 2 and words in done.stderr.decode(), done.stderr.decode()


def test_a_dry_run_tells_whether_a_budget_is_enough(box, models):
    assert b"the budget of $5.00 is enough" in run(box, models, "-i", SAMPLE, "--dry-run", "--budget-usd",
                                                    "5").stdout
    assert b"is used up after about" in run(box, models, "-i", SAMPLE, "--dry-run", "--budget-usd",
                                            "0.01").stdout
