"""What a record gets whose model could not answer it, and what prompts are made of."""
from conftest import KEY, Simulator, read_jsonl, tags, write_jsonl

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
