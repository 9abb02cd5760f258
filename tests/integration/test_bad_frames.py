"""Hostile frames: each is refused with a sentence and counted, and the coordinator goes on working."""
import os
import random

import msgpack
import pytest
from conftest import make_tags, wait_for, Coordinator, Simulator, Worker
from wire import KINDS, Peer, frame

HEAD = b"HR\x01"
OPEN = bytes([KINDS["OPEN"]])


def raw(kind, body):
    return HEAD + bytes([KINDS[kind]]) + body


FRAMES = [  # name of the case, the frame, code of the refusal
    ("nothing", b"", "bad-frame"),
    ("one byte", b"H", "bad-frame"),
    ("text", b"GET / HTTP/1.1\r\n\r\n", "bad-frame"),
    ("another version", b"HR\x02" + OPEN + msgpack.packb({"producer": "p"}), "bad-version"),
    ("an unknown kind", HEAD + b"\xee" + msgpack.packb({}), "bad-frame"),
    ("no map", raw("OPEN", b""), "bad-frame"),
    ("an array for a map", raw("OPEN", msgpack.packb([1])), "bad-frame"),
    ("a map cut short", frame("OPEN", producer="p" * 50)[:-9], "bad-frame"),
    ("bytes behind the map", frame("OPEN", producer="p") + b"\0", "bad-frame"),
    ("an array of 4 billion", raw("OPEN", b"\xdd\xff\xff\xff\xff"), "bad-frame"),
    ("a map of 4 billion", raw("OPEN", b"\xdf\xff\xff\xff\xff"), "bad-frame"),
    ("a string of 4 billion", raw("OPEN", b"\x81\xdb\xff\xff\xff\xffab"), "bad-frame"),
    ("nesting without end", raw("OPEN", b"\x81\xa1x" + b"\x91" * 10000), "bad-frame"),
    ("an ext type", raw("OPEN", b"\x81\xa1x\xd4\x01\x00"), "bad-frame"),
    ("a string that is not UTF-8", raw("OPEN", b"\x81\xa8producer\xa2\xff\xfe"), "bad-frame"),
    ("a field missing", frame("OPEN"), "bad-frame"),
    ("a field of the wrong type", frame("OPEN", producer=7), "bad-frame"),
    ("a field twice", raw("OPEN", b"\x82\xa8producer\xa1a\xa8producer\xa1b"), "bad-frame"),
    ("a name that is too long", frame("OPEN", producer="p" * 129), "bad-frame"),
    ("a negative number", frame("APPEND", first_seq=-1, count=1, records=b"{}"), "bad-frame"),
    ("a count past its bound", frame("APPEND", first_seq=1, count=1 << 40, records=b"{}"), "bad-frame"),
]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """One coordinator for all cases: it has to live through every one of them."""
    from conftest import Box, Redis
    box = Box(tmp_path_factory.mktemp("frames") / "box")
    simulator = Simulator(box)
    redis = Redis(box)
    coordinator = Coordinator(box, redis, "--models", make_tags(box, simulator.url), "--model", "tag")
    Worker(box, coordinator)
    yield coordinator
    box.end()


def check_alive(coordinator):
    with Peer(coordinator.address) as peer:
        peer.say("PING", time=42)
        assert peer.hear_kind("PONG") == {"time": 42}
    assert coordinator.is_running()


@pytest.mark.parametrize("bytes_, code", [case[1:] for case in FRAMES], ids=[case[0] for case in FRAMES])
def test_a_bad_frame_is_refused_and_counted(running, bytes_, code):
    before = running.metrics()["headrace_frames_bad_total"]
    with Peer(running.address) as peer:
        peer.say_bytes(bytes_)
        kind, refused = peer.hear()
        assert kind == "REFUSED" and refused["code"] == code
        assert len(refused["message"]) > 10
    assert running.metrics()["headrace_frames_bad_total"] == before + 1
    check_alive(running)


def test_a_message_of_several_parts_is_refused(running):
    with Peer(running.address) as peer:
        peer.say_bytes(b"", frame("PING"))
        kind, refused = peer.hear()
        assert kind == "REFUSED" and "parts" in refused["message"]
    check_alive(running)


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_do_no_harm(running, seed):
    draw = random.Random(seed)
    with Peer(running.address) as peer:
        for i in range(200):
            good = frame(draw.choice(list(KINDS)), producer="p", consumer="c", credit=5, first_seq=1, count=1,
                         records=b'{"text":"x"}', upto=1, partition=0)
            cut = draw.randrange(len(good))
            peer.say_bytes([draw.randbytes(draw.randrange(1, 200)), HEAD + draw.randbytes(30), good[:cut],
                            good[:cut] + draw.randbytes(4) + good[cut + 4:]][i % 4])
        peer.say("STATUS_GET", about="counters")
        wait_for("STATUS", lambda: peer.hear()[0] == "STATUS", 10, 0)
    check_alive(running)


def test_what_does_not_fit_the_dialogue_is_refused(running):
    """Good frames at the wrong time, with the code that a program can act upon."""
    row = b'{"text":"a"}\n'
    with Peer(running.address) as peer:
        def refusal(name, **fields):
            peer.say(name, **fields)
            while (heard := peer.hear())[0] == "RESULTS":
                pass
            assert heard[0] == "REFUSED", (heard, name, fields)
            return heard[1]["code"]
        assert refusal("APPEND", first_seq=1, count=1, records=row) == "not-open"
        assert refusal("FLUSH") == "not-open"
        assert refusal("ACK", partition=0, upto=1) == "not-subscribed"
        assert refusal("MODEL_GET", model="tag", revision=1) == "unknown-worker"
        assert refusal("OPEN", producer="orderly", model="nope") == "unknown-model"
        assert refusal("OPEN", producer="orderly", model="tag",
                       options=msgpack.packb({"batch.size": "-3"})) == "bad-options"
        assert refusal("WELCOME", coordinator="x", heartbeat_ms=1) == "bad-message"
        assert refusal("CREATE", sql="CREATE MODEL x") == "bad-model"
        peer.say("OPEN", producer="orderly", model="tag")
        opened = peer.hear_kind("OPENED")
        assert opened["upto"] == 0 and opened["limit"] > 0
        assert refusal("APPEND", first_seq=0, count=1, records=row) == "gap"
        assert refusal("APPEND", first_seq=5, count=1, records=row) == "gap"
        assert refusal("APPEND", first_seq=1, count=1_000_000, records=row) == "over-limit"
        assert refusal("APPEND", first_seq=1, count=2, records=row) == "bad-count"
        peer.say("SUBSCRIBE", consumer="bad-frames", credit=1, format="json")
        peer.hear_kind("SUBSCRIBED")
        assert refusal("ACK", partition=4000, upto=1) == "bad-ack"
        assert refusal("ACK", partition=0, upto=1 << 40) == "bad-ack"
    check_alive(running)


def test_the_newer_of_two_producers_of_one_name_stays(running):
    with Peer(running.address) as old, Peer(running.address) as new:
        old.say("OPEN", producer="twin", model="tag")
        old.hear_kind("OPENED")
        new.say("OPEN", producer="twin", model="tag")
        new.hear_kind("OPENED")
        kind, refused = old.hear()
        assert (kind, refused["code"]) == ("REFUSED", "superseded")
        old.say("APPEND", first_seq=1, count=1, records=b'{"text":"a"}')
        assert old.hear()[1]["code"] == "not-open"
        new.say("APPEND", first_seq=1, count=1, records=b'{"text":"a"}')
        new.say("FLUSH")
        assert new.hear_kind("ACKED")["upto"] == 1


def test_what_is_sent_twice_is_taken_once(running):
    with Peer(running.address) as peer:
        peer.say("OPEN", producer="repeats", model="tag")
        peer.hear_kind("OPENED")
        before = running.metrics()["headrace_records_skipped_total"]
        for first, n in ((1, 3), (2, 4), (1, 2)):
            rows = b"".join(b'{"text":"%d"}\n' % seq for seq in range(first, first + n))
            peer.say("APPEND", first_seq=first, count=n, records=rows)
        peer.say("FLUSH")
        wait_for("five acked", lambda: peer.hear_kind("ACKED")["upto"] == 5, 10, 0)
        assert running.metrics()["headrace_records_skipped_total"] == before + 4
        assert os.path.exists(f"/proc/{running.pid}")
