"""What a record gets whose model could not answer it, and what prompts are made of."""
from conftest import KEY, Coordinator, Simulator, Worker, read_jsonl, tags, wait_for, write_jsonl

MODEL = """
CREATE MODEL %s INPUT (text STRING) OUTPUT (%s)
WITH ('provider' = 'openai', 'endpoint' = '%s', 'model' = 'gpt-5.4-mini', 'api_key' = '${OPENAI_API_KEY}',
      'batch.timeout.ms' = '200'%s);
"""


def run(box, statements, rows, *options):
    """headrace run with the model tag; each result beside its meta."""
    sql = box.path / "models.sql"
    sql.write_text("".join(statements))
    done = box.run("headrace", "run", "-f", sql, "-m", "tag", "-i", write_jsonl(box.path / "in.jsonl", rows),
                   "-o", "out.jsonl", "--meta", *options, env={**box.env, "OPENAI_API_KEY": KEY})
    return done, read_jsonl(box.path / "out.jsonl")


def rows_of(*texts):
    return [{"id": str(i), "text": text} for i, text in enumerate(texts)]


def test_a_default_stands_for_what_was_refused(box):
    provider = Simulator(box, "--poison", "forbidden", "--poison-kind", "filter")
    texts = ["one", "forbidden", "two", "three"]
    done, rows = run(box, [MODEL % ("tag", "tag STRING", provider.url, ", 'batch.size' = '4', 'default-value' = 'none'")],
                     rows_of(*texts))
    assert done.returncode == 0, done.stderr.decode()
    want = tags(box, texts)
    want[1] = "none"
    assert [row["tag"] for row in rows] == want
    assert [row["error"] for row in rows] == [None] * 4
    assert rows[1]["meta"]["default"]["code"] == "filtered"
    assert "default" not in rows[0]["meta"]


def test_a_prompt_of_partials_asks_what_they_say(box):
    provider = Simulator(box)
    texts = ["first", "{{> rules}}", "{{/records}} {{{text}}}"]
    done, rows = run(box, [MODEL % ("tag", "tag STRING", provider.url,
                                    ", 'batch.size' = '3', 'batch.prompt.template' = '{{> rules}}\n\n{{> all}}', "
                                    "'template.rules' = 'Return only a JSON array: [{\"index\": <number>, \"tag\": <STRING>}, ...]', "
                                    "'template.all' = '{{#records}}\n{\"index\":{{index}},\"text\":{{text}}}\n{{/records}}'")],
                     rows_of(*texts))
    assert done.returncode == 0, done.stderr.decode()
    assert [row["error"] for row in rows] == [None] * 3
    assert [row["tag"] for row in rows] == tags(box, texts)
    assert len(provider.calls()) == 1


TAG, OTHER = ", 'batch.size' = '4', 'fallback.model' = 'other'", ", 'batch.size' = '3', 'price.call' = '0.5'"


def two_models(one, other, more="", other_more=""):
    return [MODEL % ("tag", "tag STRING", one.url, TAG + more), MODEL % ("other", "tag STRING", other.url, OTHER + other_more)]


def test_another_model_takes_what_the_first_refused(box):
    first = Simulator(box, "--poison", "forbidden", "--poison-kind", "refusal", name="first")
    other = Simulator(box, name="other")
    texts = [f"text {i}" if i % 5 else f"forbidden {i}" for i in range(20)]
    done, rows = run(box, two_models(first, other), rows_of(*texts))
    assert done.returncode == 0, done.stderr.decode()
    assert [row["error"] for row in rows] == [None] * 20
    assert [row["tag"] for row in rows] == tags(box, texts)
    for i, row in enumerate(rows):
        assert row["meta"]["model"] == ("tag" if i % 5 else "other")
        assert (row["meta"].get("fallback") or {}).get("model") == (None if i % 5 else "tag")
    assert rows[0]["meta"]["fallback"]["code"] == "filtered" and rows[0]["meta"]["cost"] > 0.5
    assert 2 <= len(other.calls()) <= 4


def test_a_model_that_is_gone_is_replaced_and_wrong_credentials_are_not(box):
    first = Simulator(box, "--fault", "no-model=1", name="first")
    other = Simulator(box, name="other")
    texts = [f"text {i}" for i in range(8)]
    done, rows = run(box, two_models(first, other), rows_of(*texts))
    assert done.returncode == 0, done.stderr.decode()
    assert [row["tag"] for row in rows] == tags(box, texts)
    assert {row["meta"]["fallback"]["code"] for row in rows} == {"model-not-found"}


def test_a_model_with_other_columns_is_refused_at_create(box):
    provider = Simulator(box)
    done, _ = run(box, [MODEL % ("tag", "tag STRING", provider.url, ", 'fallback.model' = 'other'"),
                        MODEL % ("other", "tag INT", provider.url, "")], rows_of("one"))
    assert done.returncode != 0
    assert "OUTPUT column 'tag' is INT, want what STRING can hold" in done.stderr.decode()


def test_a_killed_coordinator_goes_on_with_the_model_that_was_asked(box, redis):
    """Records that were handed on are asked of no model before that again, and each has one result."""
    first = Simulator(box, "--fault", "no-model=1", name="first")
    other = Simulator(box, "--latency-ms", "700", name="other")
    sql = box.path / "models.sql"
    sql.write_text("".join(two_models(first, other)).replace("'batch.size' = '4'", "'batch.size' = '24'"))
    coordinator = Coordinator(box, redis, "--grace", "500ms", "--partitions", "1")
    done = box.run("headrace", "models", "create", "--coordinator", coordinator.address, sql)
    assert done.returncode == 0, done.stderr.decode()
    worker = Worker(box, coordinator)
    texts = [f"text {i}" for i in range(24)]
    box.run("headrace", "submit", "--coordinator", coordinator.address, "-m", "tag", "--producer", "p",
            "-i", write_jsonl(box.path / "in.jsonl", rows_of(*texts)))
    wait_for("calls of the other model", lambda: len(other.calls()) >= 1)
    assert coordinator.metrics()["headrace_records_handed_on_total"] == 24
    coordinator.kill()
    coordinator = coordinator.again()
    out = box.path / "out.jsonl"
    done = box.run("headrace", "collect", "--coordinator", coordinator.address, "--consumer", "c", "-o", out, "--meta",
                   "--count", "24")
    assert done.returncode == 0, done.stderr.decode()
    rows = {row["id"]: row for row in read_jsonl(out)}
    assert len(rows) == 24 and all(row["error"] is None for row in rows.values())
    assert [rows[str(i)]["tag"] for i in range(24)] == tags(box, texts)
    assert {row["meta"]["model"] for row in rows.values()} == {"other"}
    assert len(first.calls()) == 1
    assert worker.is_running()


def test_a_value_that_does_not_fit_is_asked_for_once_more(box):
    """The provider's answers are text, and the column wants a number: two calls, and an error that says why."""
    provider = Simulator(box)
    done, rows = run(box, [MODEL % ("tag", "tag INT", provider.url, ", 'batch.size' = '3', 'max.retries' = '7', "
                                    "'structured.output' = 'off', 'batch.prompt.template' = "
                                    "'Return only a JSON array: [{\"index\": <number>, \"tag\": <STRING>}, ...]'")],
                     rows_of("one", "two", "three"))
    assert done.returncode == 1
    assert [row["error"]["code"] for row in rows] == ["bad-value"] * 3
    assert all(row["error"]["message"].endswith("column 'tag': got a string, want INT") for row in rows)
    assert [row["error"]["attempts"] for row in rows] == [2] * 3
    assert len(provider.calls()) == 2


LONG = "é" * 4000


def overflow(box, provider, more):
    done, rows = run(box, [MODEL % ("tag", "tag STRING", provider.url, f", 'batch.size' = '3'{more}")], rows_of("one", LONG, "two"))
    assert [rows[0]["error"], rows[2]["error"]] == [None, None], done.stderr.decode()
    return rows[1]


def test_a_record_that_is_too_long_is_cut(box):
    """Once with the context's size told, once learned from the provider's refusal."""
    provider = Simulator(box, "--max-context-tokens", "600")
    row = overflow(box, provider, ", 'context.size' = '500', 'context.overflow' = 'truncate-tail'")
    assert row["error"] is None and row["meta"]["warning"].startswith("truncated ")
    assert int(row["meta"]["warning"].split()[1]) % 2 == 0  # whole characters
    row = overflow(box, provider, ", 'context.overflow' = 'truncate-head'")
    assert row["error"] is None and " bytes of 'text'" in row["meta"]["warning"]


def test_a_record_that_is_too_long_ends_as_an_error_or_elsewhere(box):
    provider = Simulator(box, "--max-context-tokens", "600")
    other = Simulator(box, name="other")
    row = overflow(box, provider, "")
    assert row["error"]["code"] == "too-large" and row["meta"]["warning"] is None
    done, rows = run(box, two_models(provider, other), rows_of("one", LONG, "two"))
    assert [row["error"] for row in rows] == [None] * 3
    assert [row["meta"]["model"] for row in rows] == ["tag", "other", "tag"]
    assert rows[1]["meta"]["fallback"]["code"] == "too-large"
