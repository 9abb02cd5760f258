"""Dead letters: what was given up on is kept, shown, asked again and dropped."""
import json

import pytest
from conftest import (Coordinator, Simulator, Worker, http_get, make_tags, metrics, read_jsonl, tags, wait_for,
                      write_jsonl)
from test_run import distinct


def dlq(box, coordinator, *words):
    done = box.run("headrace", "dlq", *words, "-c", coordinator.address)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def letters(box, coordinator, *words):
    status, out, err = dlq(box, coordinator, "list", *words)
    assert status == 0, err
    return [json.loads(line) for line in out.splitlines()]


def submit(box, coordinator, rows, *words):
    source = write_jsonl(box.path / "in.jsonl", rows)
    done = box.run("headrace", "submit", "-c", coordinator.address, "-m", "tag", "-i", source, *words)
    assert done.returncode == 0, done.stderr.decode()


def collect(box, coordinator, n):
    out = box.path / "out.jsonl"
    out.unlink(missing_ok=True)
    done = box.run("headrace", "collect", "-c", coordinator.address, "-o", out, "--count", n, "--consumer", "c")
    assert done.returncode == 0, done.stderr.decode()
    return read_jsonl(out)


@pytest.fixture
def cluster(box, redis):
    """A provider that refuses every prompt with BOOM in it, and a model whose on.error is given."""
    def start(on_error, *words):
        box.simulator = Simulator(box, "--poison", "BOOM", "--poison-kind", "400")
        models = make_tags(box, box.simulator.url, f", 'on.error' = '{on_error}'")
        coordinator = Coordinator(box, redis, "-f", models, "--partitions", "3", *words)
        Worker(box, coordinator)
        return coordinator
    return start


def poisoned(reviews, n, bad):
    rows = distinct(reviews, n)
    for i in bad:
        rows[i]["text"] = f"BOOM {i}"
    return rows


def heal(box, coordinator):
    """The provider comes back without its grudge, at another address that the model learns."""
    box.simulator.stop()
    healed = Simulator(box, name="healed")
    models = make_tags(box, healed.url, ", 'on.error' = 'error-row'")
    models.write_text(models.read_text().replace("CREATE MODEL", "CREATE OR REPLACE MODEL"))
    done = box.run("headrace", "models", "create", models, "-c", coordinator.address)
    assert done.returncode == 0, done.stderr.decode()
    return healed


def test_a_dead_letter_is_listed_shown_asked_again_and_gone(box, cluster, reviews):
    coordinator = cluster("dead-letter")
    rows = poisoned(reviews, 60, [7, 33])
    submit(box, coordinator, rows, "--producer", "p")
    got = collect(box, coordinator, 58)
    assert {row["id"] for row in got} == {row["id"] for i, row in enumerate(rows) if i not in (7, 33)}
    listed = wait_for("two letters", lambda: len(letters(box, coordinator)) == 2 and letters(box, coordinator))
    assert {(one["id"], one["seq"], one["producer"]) for one in listed} == {
        (rows[7]["id"], 8, "p"), (rows[33]["id"], 34, "p")}
    assert {one["error"]["code"] for one in listed} == {"fatal-request"}
    assert all(one["error"]["attempts"] >= 2 and one["error"]["message"] and not one["row"] for one in listed)
    assert all("fields" not in one for one in listed)
    name = listed[0]["letter"]
    status, out, _ = dlq(box, coordinator, "show", name)
    assert status == 0 and json.loads(out)["fields"]["text"].startswith("BOOM")
    heal(box, coordinator)
    assert dlq(box, coordinator, "redrive", name)[:2] == (0, "1 dead letter asked again\n")
    assert [one["letter"] for one in letters(box, coordinator)] == [listed[1]["letter"]]
    assert dlq(box, coordinator, "redrive", "--all")[:2] == (0, "1 dead letter asked again\n")
    again = collect(box, coordinator, 2)
    assert {(row["id"], row["producer"], row["seq"]) for row in again} == {
        (rows[7]["id"], "p", 8), (rows[33]["id"], "p", 34)}
    assert [row["tag"] for row in again] == tags(box, [rows[row["seq"] - 1]["text"] for row in again])
    assert letters(box, coordinator) == []


def test_an_error_row_has_a_dead_letter_too(box, cluster, reviews):
    coordinator = cluster("error-row")
    rows = poisoned(reviews, 40, [5])
    submit(box, coordinator, rows, "--producer", "p")
    got = {row["id"]: row for row in collect(box, coordinator, 40)}
    assert got[rows[5]["id"]]["error"]["code"] == "fatal-request"
    one, = letters(box, coordinator)
    assert one["row"] and one["id"] == rows[5]["id"]
    heal(box, coordinator)
    assert dlq(box, coordinator, "redrive", "--all")[0] == 0
    again, = collect(box, coordinator, 1)
    assert again["id"] == rows[5]["id"] and again["error"] is None
    assert "producer" not in again  # that sequence had its result
    assert [again["tag"]] == tags(box, [rows[5]["text"]])


def test_what_fails_again_is_a_dead_letter_again_once(box, cluster, reviews):
    coordinator = cluster("dead-letter")
    submit(box, coordinator, poisoned(reviews, 20, [1, 2, 3]))
    first = wait_for("letters", lambda: len(letters(box, coordinator)) == 3 and letters(box, coordinator))
    assert dlq(box, coordinator, "redrive", "--all")[:2] == (0, "3 dead letters asked again\n")
    wait_for("letters again", lambda: len(letters(box, coordinator)) == 3)
    assert not {one["letter"] for one in letters(box, coordinator)} & {one["letter"] for one in first}


def test_letters_outlive_a_coordinator_and_many_are_dropped(box, cluster, reviews):
    coordinator = cluster("dead-letter")
    submit(box, coordinator, poisoned(reviews, 300, range(300)))
    wait_for("all letters", lambda: len(letters(box, coordinator)) == 300, 60)
    coordinator.kill()
    coordinator = coordinator.again()
    assert len(letters(box, coordinator)) == 300
    assert letters(box, coordinator, "--model", "another") == []
    one = letters(box, coordinator)[0]["letter"]
    assert dlq(box, coordinator, "drop", one)[:2] == (0, "1 dead letter dropped\n")
    assert dlq(box, coordinator, "drop", one)[0] == 2
    assert dlq(box, coordinator, "drop", "--all")[:2] == (0, "299 dead letters dropped\n")
    assert letters(box, coordinator) == []


def test_a_bound_for_letters_stops_who_needs_them_until_there_is_room(box, cluster, reviews):
    coordinator = cluster("dead-letter', 'limit.concurrency' = '1", "--dead-letters-max", "5")
    submit(box, coordinator, poisoned(reviews, 12, range(12)))

    def kept():
        return coordinator.metrics()["headrace_dead_letters"]

    def is_stopped():
        return "dead-letters-full" in http_get(coordinator.metrics_url + "/health")[1]

    wait_for("no room", is_stopped)
    first, *_ = letters(box, coordinator)
    assert kept() == len(letters(box, coordinator)) == 5
    assert dlq(box, coordinator, "drop", first["letter"])[:2] == (0, "1 dead letter dropped\n")
    wait_for("no room again", lambda: coordinator.metrics()["headrace_dead_letters_total"] == 6 and is_stopped())
    assert kept() == len(letters(box, coordinator)) == 5
    assert first not in letters(box, coordinator)
    coordinator.kill()
    coordinator = coordinator.again()
    wait_for("no room after a start", is_stopped)
    assert kept() == 5
    assert coordinator.metrics()["headrace_queued_records"] == 6


@pytest.mark.parametrize("words, part", [
    (["bury", "0/1-0"], "bury"), (["redrive"], "--all"), (["show", "x"], "'x'"),
    (["drop", "0/1-0", "--all"], "--all"), (["show", "0/1-0"], "not there"), (["show", "99/1-0"], "partition")])
def test_wrong_words_are_refused(box, cluster, words, part):
    coordinator = cluster("error-row")
    status, _, err = dlq(box, coordinator, *words)
    assert status != 0 and part in err
