"""`headrace run`: a file in, a file out, no service."""
import csv
import io
import json
import re

import pytest
from conftest import (KEY, REVIEWS, SAMPLE, Simulator, make_models, make_tags, read_jsonl, sentiments, tags,
                      wait_for, write_jsonl)


def run(box, models, *options, input=None, env=None, model="llm_sentiment"):
    return box.run("headrace", "run", "-f", models, "-m", model, *options, input=input,
                   env=env if env is not None else {**box.env, "OPENAI_API_KEY": KEY})


def check_rows(box, rows, given):
    """Every row that was given, in order, with the simulator's own answer to its text."""
    assert [row["id"] for row in rows] == [row["id"] for row in given]
    assert [row["text"] for row in rows] == [row["text"] for row in given]
    assert [(row["id"], row["error"]) for row in rows if row["error"] is not None] == []
    expected = sentiments(box, [row["text"] for row in given])
    wrong = [(row["id"], row["sentiment"], want) for row, want in zip(rows, expected)
             if row["sentiment"] != want]
    assert wrong == []


def test_the_sample_takes_one_call_for_twenty_rows(box, simulator, models, reviews):
    done = run(box, models, "-i", SAMPLE, "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr.decode()
    check_rows(box, read_jsonl(box.path / "out.jsonl"), reviews)
    ledger = simulator.calls()
    assert len(reviews) / 20 <= len(ledger) <= len(reviews) / 20 * 1.1
    assert sum(call["items"] for call in ledger) == len(reviews)
    assert box.left_over() == [(simulator.pid, box.left_over()[0][1])]


@pytest.mark.skipif(not REVIEWS.exists(), reason="the 3,000 reviews are not there")
def test_three_thousand_reviews_take_150_calls(box, simulator, models):
    given = read_jsonl(REVIEWS)
    done = run(box, models, "-i", REVIEWS, "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr.decode()
    check_rows(box, read_jsonl(box.path / "out.jsonl"), given)
    assert 150 <= len(simulator.calls()) <= 160
    assert b"3,000" in done.stderr


ANSWER_FAULTS = ["malformed", "missing", "duplicate", "shifted", "out-of-range", "fenced", "prose",
                 "truncated", "empty"]


def many(given, n):
    """n rows with ids of their own, made from those given."""
    return [{**given[i % len(given)], "id": f"row-{i}"} for i in range(n)]


def check_tags(box, rows, given):
    """Every row in order, each with the one answer that only its own text has."""
    assert [row["id"] for row in rows] == [row["id"] for row in given]
    assert [(row["id"], row["error"]) for row in rows if row["error"] is not None] == []
    wrong = [(row["id"], row["tag"], want)
             for row, want in zip(rows, tags(box, [row["text"] for row in given])) if row["tag"] != want]
    assert wrong == []


def distinct(given, n):
    """n rows made from those given, each with an id and a text of its own."""
    return [{**given[i % len(given)], "id": f"row-{i}", "text": f"{i} {given[i % len(given)]['text']}"}
            for i in range(n)]


@pytest.mark.parametrize("fault", ANSWER_FAULTS)
def test_one_kind_of_bad_answer_is_healed(box, fault, reviews):
    simulator = Simulator(box, "--fault", f"{fault}=0.25")
    given = distinct(reviews, 400)
    done = run(box, make_tags(box, simulator.url), "-i", write_jsonl(box.path / "in.jsonl", given),
               "-o", "out.jsonl", "--set", "max.retries=8", model="tag")
    assert done.returncode == 0, done.stderr.decode()
    check_tags(box, read_jsonl(box.path / "out.jsonl"), given)
    assert any(call["fault"] == fault for call in simulator.calls())


@pytest.mark.parametrize("seed", [1, 2])
def test_five_percent_of_each_bad_answer_is_healed(box, seed, reviews):
    faults = [word for fault in ANSWER_FAULTS for word in ("--fault", f"{fault}=5%")]
    simulator = Simulator(box, "--seed", seed, *faults)
    given = distinct(read_jsonl(REVIEWS) if REVIEWS.exists() else reviews, 3000)
    done = run(box, make_tags(box, simulator.url), "-i", write_jsonl(box.path / "in.jsonl", given),
               "-o", "out.jsonl", "--set", "max.retries=10", model="tag")
    assert done.returncode == 0, done.stderr.decode()
    check_tags(box, read_jsonl(box.path / "out.jsonl"), given)


def test_a_poisoned_record_ends_alone(box, reviews):
    """One record that the provider refuses wherever it stands: the others of its batch get answers."""
    simulator = Simulator(box, "--poison", "BOOM", "--poison-kind", "400")
    given = distinct(reviews, 100)
    given[37]["text"] = "BOOM"
    done = run(box, make_tags(box, simulator.url), "-i", write_jsonl(box.path / "in.jsonl", given),
               "-o", "out.jsonl", model="tag")
    assert done.returncode == 1, done.stderr.decode()
    rows = read_jsonl(box.path / "out.jsonl")
    assert [row["error"]["code"] for row in rows if row["error"]] == ["fatal-request"]
    assert rows[37]["tag"] is None and "in.jsonl:38" in rows[37]["error"]["message"]
    check_tags(box, rows[:37] + rows[38:], given[:37] + given[38:])


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_an_error_fills_the_columns_for_it(box, ending, reviews):
    """Flink's metadata columns: the refused record has the refusal's status and headers, others nulls."""
    simulator = Simulator(box, "--poison", "BOOM", "--poison-kind", "400")
    given = distinct(reviews, 40)
    given[17]["text"] = "BOOM"
    models = make_tags(box, simulator.url)
    models.write_text(models.read_text().replace(
        "OUTPUT (tag STRING)", "OUTPUT (`http-status-code` INT METADATA VIRTUAL, tag STRING, `error-string` STRING, "
        "`http-headers-map` MAP<STRING, ARRAY<STRING>> METADATA)"))
    path, out = box.path / f"in.{ending}", f"out.{ending}"
    if ending == "csv":
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(given[0]))
            writer.writeheader()
            writer.writerows(given)
    else:
        write_jsonl(path, given)
    done = run(box, models, "-i", path, "-o", out, model="tag")
    assert done.returncode == 1, done.stderr.decode()
    if ending == "csv":
        with open(box.path / out, newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["http-status-code"] for row in rows if row["http-status-code"]] == ["400"]
        assert json.loads(rows[17]["http-headers-map"]) and rows[17]["error-string"]
        return
    rows = read_jsonl(box.path / out)
    check_tags(box, rows[:17] + rows[18:], given[:17] + given[18:])
    columns = ["error-string", "http-status-code", "http-headers-map"]
    assert all(row[column] is None for row in rows[:17] + rows[18:] for column in columns)
    sentence, status, headers = (rows[17][column] for column in columns)
    assert status == 400 and sentence and sentence in rows[17]["error"]["message"]
    types = [value for name, value in headers.items() if name.lower() == "content-type"]
    assert len(types) == 1 and types[0][0].startswith("application/json"), headers


@pytest.mark.parametrize("fault", ["500", "503", "429", "429-no-delay", "reset", "cut", "html"])
def test_a_failing_provider_is_asked_again(box, fault, reviews):
    simulator = Simulator(box, "--fault", f"{fault}=0.2", "--retry-after-ms", "200")
    done = run(box, make_models(box, simulator.url), "-i", SAMPLE, "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr.decode()
    check_rows(box, read_jsonl(box.path / "out.jsonl"), reviews)


def test_a_call_that_hangs_is_given_up_and_asked_again(box, reviews):
    simulator = Simulator(box, "--fault", "hang=0.2")
    models = make_models(box, simulator.url, request_timeout_ms="500")
    done = run(box, models, "-i", SAMPLE, "-o", "out.jsonl")
    assert done.returncode == 0, done.stderr.decode()
    assert re.search(rb"cost      \$0\.\d+, .* and \d+ calls? of unknown cost", done.stderr), done.stderr.decode()
    check_rows(box, read_jsonl(box.path / "out.jsonl"), reviews)


def test_csv_goes_in_and_out(box, models, reviews):
    given = [{"id": r["id"], "text": r["text"] + ' "quoted", with\na line'} for r in reviews[:50]]
    with open(box.path / "in.csv", "w", newline="") as file:
        table = csv.DictWriter(file, ["id", "text"])
        table.writeheader()
        table.writerows(given)
    done = run(box, models, "-i", "in.csv", "-o", "out.csv")
    assert done.returncode == 0, done.stderr.decode()
    rows = list(csv.DictReader(io.StringIO((box.path / "out.csv").read_text())))
    check_rows(box, [{**row, "error": row["error"] or None} for row in rows], given)


def test_csv_goes_through_pipes(box, models, reviews):
    given = "id,text\n" + "".join(f"{r['id']},{i} good\n" for i, r in enumerate(reviews[:30]))
    done = run(box, models, "-i", "-", "-o", "-", "--format", "csv", "--output-format", "csv", "-q",
               input=b"\xef\xbb\xbf" + given.encode())
    assert done.returncode == 0, done.stderr.decode()
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    check_rows(box, [{**row, "error": row["error"] or None} for row in rows],
               list(csv.DictReader(io.StringIO(given))))
    done = run(box, models, "-i", "-", "-o", "-", "--output-format", "csv", input=given.encode())
    assert done.returncode == 2 and b"--format csv" in done.stderr


def test_a_json_array_is_refused(box, simulator, models, reviews):
    (box.path / "reviews.json").write_text(json.dumps(reviews, indent=1))
    for words in (["-i", "reviews.json"], ["-i", SAMPLE, "-i", "reviews.json"], ["-i", "-"]):
        done = run(box, models, *words, "-o", "out.jsonl", input=b"[{}]")
        assert done.returncode == 2
        assert b"got a JSON array, want JSON Lines" in done.stderr and b"jq -c '.[]'" in done.stderr
    assert simulator.calls() == []


def test_lines_of_text_come_from_standard_input(box, models, reviews):
    texts = [r["text"] for r in reviews[:45]]
    done = run(box, models, "-i", "-", "-o", "-", "--format", "text", "--quiet",
               input="".join(t + "\n" for t in texts).encode())
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["text"], r["sentiment"], r["error"]) for r in rows] == \
        [(t, s, None) for t, s in zip(texts, sentiments(box, texts))]


def test_meta_leads_from_row_to_call(box, simulator, models, reviews):
    done = run(box, models, "-i", SAMPLE, "-o", "out.jsonl", "--meta")
    assert done.returncode == 0, done.stderr.decode()
    rows = read_jsonl(box.path / "out.jsonl")
    check_rows(box, rows, reviews)
    metas = [row["meta"] for row in rows]
    assert len({(m["batch"], m["call"]) for m in metas}) == len(simulator.calls())
    assert all(m["model"] == "llm_sentiment" and m["revision"] == 1 and m["attempts"] == 1 and
               m["request_id"] and m["prompt_hash"] and m["latency_ms"] > 0 for m in metas)
    # A batch's tokens are divided over its rows: nothing is lost, nothing is counted twice.
    for kind in ("input", "output"):
        of_rows = sum(m[f"{kind}_tokens"] for m in metas)
        of_calls = sum(call[f"{kind}_tokens"] for call in simulator.calls())
        assert abs(of_rows - of_calls) < 1, kind


def test_unordered_rows_are_all_there(box, simulator, reviews):
    slow = Simulator(box, "--latency-jitter-ms", "100", name="slow")
    done = run(box, make_models(box, slow.url), "-i", SAMPLE, "-o", "out.jsonl", "--unordered", "--workers", "2")
    assert done.returncode == 0, done.stderr.decode()
    place = {row["id"]: i for i, row in enumerate(reviews)}
    check_rows(box, sorted(read_jsonl(box.path / "out.jsonl"), key=lambda r: place[r["id"]]), reviews)


def test_a_batch_of_one_sends_the_plain_prompt(box, simulator, models, reviews):
    given = reviews[:30]
    done = run(box, models, "-i", write_jsonl(box.path / "in.jsonl", given), "-o", "out.jsonl",
               "--set", "batch.size=1", "--set", "prompt.template=What is the sentiment?")
    assert done.returncode == 0, done.stderr.decode()
    check_rows(box, read_jsonl(box.path / "out.jsonl"), given)
    assert [call["items"] for call in simulator.calls()] == [1] * 30


def test_an_interrupt_leaves_no_process_and_no_torn_line(box, reviews):
    slow = Simulator(box, "--latency-ms", "300", name="slow")
    given = many(reviews, 5000)
    running = box.start("run", box.bin / "headrace", "run", "-f", make_models(box, slow.url),
                        "-m", "llm_sentiment", "-i", write_jsonl(box.path / "in.jsonl", given),
                        "-o", "out.jsonl", "--max-inflight", "2", env={**box.env, "OPENAI_API_KEY": KEY})
    out = box.path / "out.jsonl"
    wait_for("some rows", lambda: out.exists() and out.stat().st_size > 0)
    second = run(box, box.path / "llm_sentiment.sql", "-i", SAMPLE, "-o", "out.jsonl")
    assert second.returncode == 3 and b"another headrace is writing it" in second.stderr
    running.process.send_signal(2)
    assert running.wait(30) == 130
    assert [command for pid, command in box.left_over() if pid != slow.pid] == []
    text = out.read_text()
    rows = read_jsonl(out)
    assert text.endswith("\n") and 0 < len(rows) < len(given)
    check_rows(box, rows, given[:len(rows)])
    assert "interrupted" in running.log and "only one that is started with --state DIR can" in running.log
    assert list(box.path.glob("headrace-*")) == [], "nothing is left of a run that cannot go on"


def test_an_interrupted_run_is_kept_in_its_state_folder(box, reviews):
    slow = Simulator(box, "--latency-ms", "200")
    models = make_models(box, slow.url)
    running = box.start("first", box.bin / "headrace", "run", "-f", models, "-m", "llm_sentiment", "-i",
                        write_jsonl(box.path / "in.jsonl", many(reviews, 1000)), "-o", "out.jsonl",
                        "--state", box.path / "state", "--max-inflight", "1",
                        env={**box.env, "OPENAI_API_KEY": KEY})
    out = box.path / "out.jsonl"
    wait_for("some rows", lambda: out.exists() and out.stat().st_size > 0)
    running.process.send_signal(2)
    assert running.wait(30) == 130
    before = out.read_bytes()
    assert before.endswith(b"\n")
    again = run(box, models, "-i", "in.jsonl", "-o", "else.jsonl", "--state", "state")
    assert again.returncode == 3
    assert b"did not finish" in again.stderr and b"state" in again.stderr
    assert out.read_bytes() == before


# ---- Bad input ------------------------------------------------------------------------------------

BAD_ROWS = [  # name of the case, the line, words of its error
    ("a broken JSON line", b'{"id": "bad", oops}', ["not JSON", "got", "want"]),
    ("a missing column", b'{"id": "bad"}', ["column 'text'", "no such column", "want STRING"]),
    ("a wrong type", b'{"id": "bad", "text": [1]}', ["column 'text'", "an array", "want STRING"]),
    ("not an object", b'"bad"', ["a string", "want a JSON object"]),
    ("bytes that are not UTF-8", b'{"id": "bad", "text": "\xff\xfe"}', ["UTF-8"]),
    ("an over-long row", b'{"id": "bad", "text": "' + b"x" * 1_100_000 + b'"}', ["longer than 1048576 bytes"]),
    ("deep nesting", b'{"id": "bad", "text": ' + b"[" * 5000 + b"]" * 5000 + b"}", []),
]


@pytest.mark.parametrize("line, words", [case[1:] for case in BAD_ROWS], ids=[case[0] for case in BAD_ROWS])
def test_a_bad_row_is_an_error_row_in_its_place(box, models, reviews, line, words):
    good = [json.dumps(row).encode() for row in reviews[:4]]
    (box.path / "in.jsonl").write_bytes(b"\n".join([*good[:2], line, *good[2:]]) + b"\n")
    done = run(box, models, "-i", "in.jsonl", "-o", "out.jsonl")
    assert done.returncode == 1
    rows = read_jsonl(box.path / "out.jsonl")
    check_rows(box, rows[:2] + rows[3:], reviews[:4])
    assert rows[2]["sentiment"] is None
    assert rows[2]["error"]["code"] in ("bad-record", "record-too-long")
    for word in ["in.jsonl:3", *words]:
        assert word in rows[2]["error"]["message"]
    assert b"1 " + rows[2]["error"]["code"].encode() in done.stderr


def test_quiet_still_counts_the_rows_that_went_wrong(box, models, reviews):
    (box.path / "in.jsonl").write_text(json.dumps(reviews[0]) + "\n{oops}\n7\n")
    done = run(box, models, "-i", "in.jsonl", "-o", "out.jsonl", "-q")
    assert done.returncode == 1
    assert done.stderr == b"headrace: rows that ended as errors: 2 (2 bad-record)\n"


def test_a_row_of_a_torn_file_is_an_error_row(box, models, reviews):
    (box.path / "in.jsonl").write_text(json.dumps(reviews[0]) + "\n" + json.dumps(reviews[1])[:-9])
    done = run(box, models, "-i", "in.jsonl", "-o", "out.jsonl")
    assert done.returncode == 1
    rows = read_jsonl(box.path / "out.jsonl")
    check_rows(box, rows[:1], reviews[:1])
    assert "in.jsonl:2" in rows[1]["error"]["message"]


def test_an_empty_file_makes_an_empty_file(box, simulator, models):
    (box.path / "in.jsonl").touch()
    done = run(box, models, "-i", "in.jsonl", "-o", "out.jsonl")
    assert done.returncode == 0
    assert (box.path / "out.jsonl").read_bytes() == b""
    assert simulator.calls() == []


def sql_with(box, old, new):
    path = box.path / "changed.sql"
    path.write_text((box.path / "llm_sentiment.sql").read_text().replace(old, new))
    return path


REFUSALS = [  # name of the case, what is other than usual, exit status, words
    ("unknown model", {"model": "nope"}, 2, ["'nope'", "llm_sentiment"]),
    ("no such input", {"input": "no.jsonl"}, 2, ["'no.jsonl'", "No such file"]),
    ("a folder as input", {"input": "."}, 2, ["'.'"]),
    ("no such output folder", {"output": "no/out.jsonl"}, 3, ["no/out.jsonl", "No such file"]),
    ("output is a folder", {"output": "."}, 3, ["'.'"]),
    ("no such models file", {"models": "no.sql"}, 2, ["no.sql", "No such file"]),
    ("bad value", {"set": "batch.size=many"}, 2, ["'batch.size'", "got 'many'", "want", "1 to 1024"]),
    ("unknown option", {"set": "batch.sise=2"}, 2, ["'batch.sise'", "want 'batch.size'"]),
    ("no value", {"set": "batch.size"}, 2, ["batch.size", "want"]),
    ("bad choice", {"set": "response.format=yaml"}, 2, ["'response.format'", "got 'yaml'", "want"]),
    ("bad template", {"set": "system.prompt={{#a}}"}, 2, ["'system.prompt'"]),
    ("bad path", {"set": "response.path=$["}, 2, ["'response.path'"]),
    ("unresolved name", {"env": {}}, 2, ["${OPENAI_API_KEY}", "llm_sentiment", "--secrets"]),
    ("a key in clear text", {"sql": ("${OPENAI_API_KEY}", "sk-123")}, 2, [".sql:", "'api_key'", "${"]),
    ("a missing required option", {"sql": ("'provider' = 'openai',", "")}, 2, [".sql:", "'provider'"]),
    ("unknown provider", {"sql": ("'openai'", "'skynet'")}, 2, [".sql:", "'provider'", "skynet", "openai"]),
    ("a bad type", {"sql": ("text STRING", "text STRNG")}, 2, [".sql:", "STRNG", "STRING"]),
    ("a statement cut short", {"sql": (");", "")}, 2, [".sql:"]),
    ("bad state folder", {"state": "/proc/nothing"}, 3, ["--state", "/proc/nothing"]),
]


@pytest.mark.parametrize("other, status, words", [case[1:] for case in REFUSALS],
                         ids=[case[0] for case in REFUSALS])
def test_what_cannot_work_is_refused_before_anything_starts(box, simulator, models, other, status, words):
    path = sql_with(box, *other["sql"]) if "sql" in other else other.get("models", models)
    options = [w for name in ("set", "state") if name in other for w in (f"--{name}", other[name])]
    done = run(box, path, "-i", other.get("input", SAMPLE), "-o", other.get("output", "out.jsonl"), *options,
               model=other.get("model", "llm_sentiment"),
               env={**box.env, **other.get("env", {"OPENAI_API_KEY": KEY})})
    message = done.stderr.decode()
    assert done.returncode == status, message
    assert message.startswith("headrace: ")
    for word in words:
        assert word in message
    assert len(message.splitlines()) <= 2, "a message, not a story"
    assert simulator.calls() == []
    assert [c for p, c in box.left_over() if p != simulator.pid] == []


def test_without_redis_server_it_says_what_to_install(box, models):
    (box.path / "empty").mkdir()
    done = run(box, models, "-i", SAMPLE, "-o", "out.jsonl",
               env={**box.env, "OPENAI_API_KEY": KEY, "PATH": str(box.path / "empty")})
    assert done.returncode == 3
    assert b"redis-server" in done.stderr and b"apt-get install" in done.stderr


def test_a_wrong_key_stops_the_run_with_its_records_unspent(box):
    simulator = Simulator(box, "--api-key", "another-key")
    done = run(box, make_models(box, simulator.url), "-i", SAMPLE, "-o", "out.jsonl")
    assert done.returncode == 4
    assert b"fatal-auth" in done.stderr and KEY.encode() not in done.stderr
    assert b"300 rows read and not in the output" in done.stderr and b"saved" not in done.stderr
    assert all(call["status"] == 401 for call in simulator.calls())
    assert len(simulator.calls()) <= 64, "the pool stops; what was in flight may have been sent"


def test_an_endpoint_that_nobody_listens_at_is_named(box):
    models = make_models(box, "http://127.0.0.1:1/v1/chat/completions", max_retries="1")
    done = run(box, models, "-i", SAMPLE, "-o", "out.jsonl")
    assert done.returncode == 1
    rows = read_jsonl(box.path / "out.jsonl")
    assert len(rows) == 300
    assert {row["error"]["code"] for row in rows} == {"unreachable"}
    assert "127.0.0.1" in rows[0]["error"]["message"]
    assert b"unreachable" in done.stderr


def test_no_secret_is_written_anywhere(box, simulator, models):
    done = run(box, models, "-i", SAMPLE, "-o", "out.jsonl", "--meta", "--state", "state", "--log-level", "debug")
    assert done.returncode == 0, done.stderr.decode()
    files = [file for file in box.path.rglob("*") if file.is_file() and file != simulator.ledger]
    assert any(file.name == "worker-1.log" for file in files)
    assert [str(file) for file in files if KEY.encode() in file.read_bytes()] == []
    assert KEY.encode() not in done.stdout + done.stderr
