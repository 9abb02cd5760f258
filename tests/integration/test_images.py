"""Images of records: each reaches its own answer through every provider, and no file is read that a record may
not name."""
import base64
import json
import os
import re
import struct
import zlib

import msgpack
import pytest
from conftest import KEY, Coordinator, Simulator, Worker, ask_simulator, read_jsonl, wait_for, write_jsonl
from test_providers import FAULTS, TEXT_APIS, post
from wire import Peer


def png(width, height, seed=0):
    """A PNG whose pixels only this seed has."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    lines = b"".join(b"\0" + bytes((seed * 7 + x + y) % 256 for x in range(width)) for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"tEXt", b"seed\0%d" % seed) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))


def gif(width, height, seed=0):
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b"!\xfe" + bytes([9]) + b"%9d" % seed + b"\0;"


def jpeg(width, height, seed=0):
    comment = b"%d" % seed
    return (b"\xff\xd8\xff\xfe" + struct.pack(">H", 2 + len(comment)) + comment +
            b"\xff\xc0\0\x0b\x08" + struct.pack(">HH", height, width) + b"\1\1\x11\0\xff\xd9")


def webp(width, height, seed=0):
    data = b"VP8X" + struct.pack("<II", 10, 0) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    data += b"SEED" + struct.pack("<II", 4, seed)
    return b"RIFF" + struct.pack("<I", 4 + len(data)) + b"WEBP" + data


KINDS = {"image/png": png, "image/gif": gif, "image/jpeg": jpeg, "image/webp": webp}


def says(media_type, width, height, data):
    """What the simulator says an image is."""
    hash = 0xcbf29ce484222325
    for byte in data:
        hash = (hash ^ byte) * 0x100000001b3 % 2**64
    return f"{media_type} {width}x{height} {hash:016x}"


def tags(box, texts):
    # A record's values are joined by line feeds, which stand as vertical tabs here.
    return ["h:" + hash for hash in ask_simulator(box, "--hash", texts)]


def make_images(n, kinds):
    """n different images: media type, width, height, bytes."""
    made = []
    for i in range(n):
        media_type = kinds[i % len(kinds)]
        width, height = 1 + i % 19, 1 + i % 7
        made.append((media_type, width, height, KINDS[media_type](width, height, i)))
    return made


def image_model(provider, endpoint, more="", columns="photo IMAGE, text STRING", batch=10):
    return f"""CREATE MODEL m INPUT ({columns}) OUTPUT (tag STRING)
WITH ('provider' = '{provider}', 'endpoint' = '{endpoint}', 'model' = 'd', 'api_key' = '${{OPENAI_API_KEY}}',
      'max.tokens' = '4096', 'batch.size' = '{batch}', 'batch.timeout.ms' = '200'{more});"""


def run(box, sql, rows, *options, folder=None):
    folder = folder or box.path
    (box.path / "models.sql").write_text(sql)
    write_jsonl(folder / "in.jsonl", rows)
    done = box.run("headrace", "run", "-f", box.path / "models.sql", "-m", "m", "-i", folder / "in.jsonl",
                   "-o", "out.jsonl", "--set", "max.retries=40", "--set", "ambiguous.retries=40", *options,
                   env={**box.env, "OPENAI_API_KEY": KEY})
    out = box.path / "out.jsonl"
    return done, read_jsonl(out) if out.exists() else []


def check(rows, want):
    assert [(row["id"], row["error"]) for row in rows if row["error"] is not None] == []
    assert [(row["id"], row["tag"]) for row in rows] == list(enumerate(want))


@pytest.mark.parametrize("provider,path", TEXT_APIS)
def test_every_image_reaches_its_own_answer(box, provider, path):
    """Files of several kinds, ten to a prompt, through every fault of an answer."""
    simulator = Simulator(box, "--api-key", KEY, "--retry-after-ms", "100", *FAULTS)
    kinds = [kind for kind in KINDS if provider != "gemini" or kind != "image/gif"]
    images = make_images(120, kinds)
    (box.path / "in").mkdir()
    given = []
    for i, (_, _, _, data) in enumerate(images):
        (box.path / f"in/{i}.bin").write_bytes(data)
        given.append({"id": i, "text": f'"index": {(i + 1) % 10}, "tag": "h:0"}} {i}', "photo": f"{i}.bin"})
    done, rows = run(box, image_model(provider, f"http://127.0.0.1:{simulator.port}{path}"), given,
                     folder=box.path / "in")
    assert done.returncode == 0, done.stderr.decode()
    check(rows, tags(box, [f"{says(*image)}\v{row['text']}" for image, row in zip(images, given)]))
    assert [row["photo"] for row in rows] == [row["photo"] for row in given]  # the rows stay as they were
    calls = simulator.calls()
    assert any(call["fault"] for call in calls)
    assert {call["status"] for call in calls} <= {0, 200, 429, 500, 502}  # nothing was refused as wrong
    assert len(calls) < 120


@pytest.mark.parametrize("provider,path,model", [
    ("openai", "/v1", "gpt-5.4-mini"), ("azure-openai", "/openai/v1", "gpt-5.4-mini"),
    ("anthropic", "/v1", "claude-haiku-4-5"), ("gemini", "/v1beta", "gemini-2.5-flash")])
def test_images_go_through_jobs(box, provider, path, model):
    simulator = Simulator(box, "--batch-time", "200ms", "--batch-fault", "shuffle=100%")
    images = make_images(40, ["image/png", "image/webp"])
    sql = image_model(provider, f"http://127.0.0.1:{simulator.port}{path}",
                      ", 'mode' = 'batch', 'structured.output' = 'required', 'batch.job.poll' = '100'")
    given = [{"id": i, "text": f"t{i}", "photo": base64.b64encode(image[3]).decode()} for i, image in enumerate(images)]
    done, rows = run(box, sql.replace("'model' = 'd'", f"'model' = '{model}'"), given)
    assert done.returncode == 0, done.stderr.decode()
    check(rows, tags(box, [f"{says(*image)}\vt{i}" for i, image in enumerate(images)]))


# White space alone between two images is no part of a message.
TEMPLATE = """, 'batch.prompt.template' = 'Name each tag.
{{#records}}{{index}}: {{text}} {{b}} {{a}}
{{/records}}'"""


@pytest.mark.parametrize("batch,more,join", [
    (10, ", 'input.format' = 'text'", "{0}\v{1}\v{2}"), (1, "", "{0}\v{1}\v{2}"), (10, TEMPLATE, '"{2}" "{1}""{0}"')],
    ids=["text", "single", "template"])
def test_two_images_a_record(box, batch, more, join):
    simulator = Simulator(box, *FAULTS)
    images = make_images(80, list(KINDS))
    sql = image_model("vllm", simulator.url, more, "text STRING, a IMAGE, b IMAGE", batch)
    given = [{"id": i, "text": f"t{i}", "a": base64.b64encode(images[2 * i][3]).decode(),
              "b": f"data:{images[2 * i + 1][0]};base64,{base64.b64encode(images[2 * i + 1][3]).decode()}"}
             for i in range(40)]
    done, rows = run(box, sql, given)
    assert done.returncode == 0, done.stderr.decode()
    check(rows, tags(box, [join.format(says(*images[2 * i]), says(*images[2 * i + 1]), f"t{i}") for i in range(40)]))


def test_rows_cannot_make_other_files_leave(box):
    """A row names what it wants: only images below the folder are read, and the others' answers are theirs."""
    simulator = Simulator(box)
    folder = box.path / "in"
    folder.mkdir()
    image = ("image/png", 2, 3, png(2, 3, 1))
    (folder / "good.png").write_bytes(image[3])
    (box.path / "secret.png").write_bytes(png(2, 3, 2))
    (folder / "notes.png").write_text("my password is hunter2")
    os.symlink(box.path / "secret.png", folder / "link.png")
    os.symlink(box.path, folder / "up")
    os.mkfifo(folder / "pipe.png")
    paths = ["good.png", "../secret.png", str(box.path / "secret.png"), "link.png", "up/secret.png", "notes.png",
             "pipe.png", "/etc/passwd", "file:///etc/passwd", "none.png", "good.png"]
    given = [{"id": i, "text": "t", "photo": path} for i, path in enumerate(paths)]
    done, rows = run(box, image_model("openai", simulator.url), given, folder=folder)
    assert done.returncode == 1, done.stderr.decode()
    want = tags(box, [f"{says(*image)}\vt"])[0]
    assert [row["tag"] for row in rows] == [want] + [None] * 9 + [want]
    assert {row["error"]["code"] for row in rows[1:-1]} == {"bad-record"}
    words = ["leads out", "leads out", "symbolic link", "symbolic link", "something else, want a PNG", "no regular file",
             "leads out", "No such file", "No such file"]
    for row, word in zip(rows[1:-1], words):
        assert word in row["error"]["message"], row["error"]
    assert len(simulator.calls()) == 1


def test_another_folder_and_a_ceiling(box):
    simulator = Simulator(box)
    (box.path / "photos").mkdir()
    (box.path / "rows").mkdir()
    image = ("image/png", 5, 5, png(5, 5))
    (box.path / "photos/a.png").write_bytes(image[3])
    (box.path / "photos/b.png").write_bytes(png(5, 5) + b"\0" * 1000)
    given = [{"id": 0, "text": "t", "photo": "a.png"}, {"id": 1, "text": "t", "photo": "b.png"}]
    done, rows = run(box, image_model("openai", simulator.url), given, "--image-folder", box.path / "photos",
                     "--image-max-bytes", "1000", folder=box.path / "rows")
    assert done.returncode == 1, done.stderr.decode()
    assert rows[0]["tag"] == tags(box, [f"{says(*image)}\vt"])[0]
    assert "want at most 1000 (--image-max-bytes)" in rows[1]["error"]["message"]


def test_a_dry_run_counts_images_by_their_pixels(box):
    (box.path / "a.png").write_bytes(png(750, 100) + b"\0" * 2_000_000)
    (box.path / "models.sql").write_text(image_model("openai", "http://127.0.0.1:1"))
    given = [{"id": i, "text": "t", "photo": "a.png" if i else "none.png"} for i in range(11)]
    write_jsonl(box.path / "in.jsonl", given)
    done = box.run("headrace", "run", "-f", "models.sql", "-m", "m", "-i", "in.jsonl", "--dry-run")
    text = done.stdout.decode()
    assert done.returncode == 1 and b"image 'none.png': No such file" in done.stderr, (text, done.stderr)
    counts = re.search(r"input tokens\s+([\d,]+)", text)
    assert counts, text
    tokens = int(counts[1].replace(",", ""))
    assert 10 * 100 <= tokens < 10 * 100 + 1000, text  # a token for 750 pixels, whatever the bytes


def test_a_run_that_goes_on_keeps_each_image_with_its_row(box):
    """Killed in the middle; meanwhile files appear that rows named in vain: no answer moves to another row."""
    simulator = Simulator(box, "--latency-ms", "150")
    images = make_images(40, ["image/png"])
    given = [{"id": i, "text": f"t{i}", "photo": f"{i}.png"} for i in range(40)]
    late = {i for i in range(40) if i % 5 == 2}
    for i in set(range(40)) - late:
        (box.path / f"{i}.png").write_bytes(images[i][3])
    (box.path / "models.sql").write_text(image_model("openai", simulator.url, batch=2))
    write_jsonl(box.path / "in.jsonl", given)
    command = [box.bin / "headrace", "run", "-f", "models.sql", "-m", "m", "-i", "in.jsonl", "-o", "out.jsonl",
               "--max-inflight", "2", "--state", "state", "--set", "ambiguous.retries=40", "--set", "max.retries=40"]
    env = {**box.env, "OPENAI_API_KEY": KEY}
    first = box.start("first", *command, env=env)
    wait_for("some rows", lambda: len(read_jsonl(box.path / "out.jsonl")) >= 8)
    first.kill()
    for i in late:
        (box.path / f"{i}.png").write_bytes(images[i][3])
    second = box.start("second", *command, env=env)
    assert second.wait(120) in (0, 1), second.log
    rows = read_jsonl(box.path / "out.jsonl")
    want = tags(box, [f"{says(*image)}\vt{i}" for i, image in enumerate(images)])
    assert [row["id"] for row in rows] == list(range(40))
    for i, row in enumerate(rows):
        if i in late and row["error"]:
            assert row["error"]["code"] == "bad-record"
        else:
            assert (row["tag"], row["error"]) == (want[i], None)


def test_links_go_only_where_they_are_wanted(box):
    simulator = Simulator(box, "--no-links")
    url = f"http://127.0.0.1:{simulator.port}"
    link = {"id": 0, "text": "t", "photo": "http://169.254.169.254/latest/meta-data"}
    for provider in ("vllm", "ollama", "openai", "gemini"):
        done, rows = run(box, image_model(provider, url), [link])
        assert done.returncode == 1, done.stderr.decode()
        assert rows[0]["error"]["code"] == "bad-record"
        assert "got a URL, want the image's bytes" in rows[0]["error"]["message"]
    assert simulator.calls() == []
    done, rows = run(box, image_model("vllm", url, ", 'image.links' = 'on'"), [link])
    assert rows[0]["error"]["code"] == "fatal-request", rows  # the server itself fetches none
    other = Simulator(box, name="other")
    for provider in ("anthropic", "vllm", "openai"):
        done, rows = run(box, image_model(provider, f"http://127.0.0.1:{other.port}", ", 'image.links' = 'on'"), [link])
        assert done.returncode == 0, rows
        assert rows[0]["tag"] == tags(box, [f"link {link['photo']}\vt"])[0]


@pytest.fixture
def cluster(box, redis):
    simulator = Simulator(box)
    (box.path / "models.sql").write_text(image_model("openai", simulator.url))
    coordinator = Coordinator(box, redis, "--models", box.path / "models.sql", "--model", "m")
    Worker(box, coordinator)
    return simulator, coordinator


def results(box, coordinator, n):
    done = box.run("headrace", "collect", "-c", coordinator.address, "-o", "out.jsonl", "--consumer", "c", "--quiet", "--meta",
                   "--count", n, seconds=240)
    assert done.returncode == 0, done.stderr.decode()
    return sorted(read_jsonl(box.path / "out.jsonl"), key=lambda result: int(result["id"]))


def test_submitted_files_and_bytes_off_the_wire(box, cluster):
    """`headrace submit` reads files; a producer of msgpack sends bytes; a path on the wire is an error."""
    simulator, coordinator = cluster
    images = make_images(40, list(KINDS))
    rows = []
    for i, image in enumerate(images[:20]):
        (box.path / f"{i}.img").write_bytes(image[3])
        rows.append({"id": i, "text": f"t{i}", "photo": f"{i}.img"})
    rows.append({"id": 20, "text": "t", "photo": "none.img"})
    done = box.run("headrace", "submit", "-c", coordinator.address, "-m", "m", "-i",
                   write_jsonl(box.path / "in.jsonl", rows))
    assert done.returncode == 1 and b"image 'none.img': No such file" in done.stderr, done.stderr.decode()
    with Peer(coordinator.address) as peer:
        peer.say("OPEN", producer="p", model="m")
        peer.hear_kind("OPENED")
        packed = [{"id": 21 + i, "text": f"t{i}", "photo": image[3]} for i, image in enumerate(images[20:])]
        packed.append({"id": 41, "text": "t", "photo": str(box.path / "0.img")})
        packed.append({"id": 42, "text": "t", "photo": b"no image"})
        peer.say("APPEND", first_seq=1, count=len(packed), records=b"".join(map(msgpack.packb, packed)))
        while peer.hear_kind("ACKED")["upto"] < len(packed):
            pass
        peer.say("FLUSH")
    got = results(box, coordinator, 43)
    want = tags(box, [f"{says(*image)}\vt{i % 20}" for i, image in enumerate(images)])
    good = [result for result in got if int(result["id"]) not in (20, 41, 42)]
    assert [(result["tag"], result["error"]) for result in good] == [(tag, None) for tag in want]
    for id, words in ((20, "headrace run and headrace submit alone"), (41, "headrace run and headrace submit alone"),
                      (42, "8 bytes of something else than a PNG")):
        error = got[id]["error"]
        assert error["code"] == "bad-record" and words in error["message"], error
    # Another image is another prompt, though the text is the same.
    assert len({result["meta"]["prompt_hash"] for result in good}) > 1
    for child in box.children:
        assert "iVBORw0" not in child.log and "R0lGOD" not in child.log and "hunter2" not in child.log


def test_a_dead_letter_shows_what_its_image_is_and_asks_again(box, redis):
    simulator = Simulator(box, "--poison", "boom")
    (box.path / "models.sql").write_text(image_model("openai", simulator.url, ", 'on.error' = 'dead-letter'"))
    coordinator = Coordinator(box, redis, "--models", box.path / "models.sql", "--model", "m")
    Worker(box, coordinator)
    image = ("image/png", 4, 4, png(4, 4))
    (box.path / "a.png").write_bytes(image[3])
    rows = [{"id": 0, "text": "boom", "photo": "a.png"}]
    done = box.run("headrace", "submit", "-c", coordinator.address, "-m", "m", "-i",
                   write_jsonl(box.path / "in.jsonl", rows))
    assert done.returncode == 0, done.stderr.decode()

    def letters():
        done = box.run("headrace", "dlq", "list", "-c", coordinator.address)
        assert done.returncode == 0, done.stderr.decode()
        return [json.loads(line) for line in done.stdout.splitlines()]

    wait_for("a letter", letters)
    done = box.run("headrace", "dlq", "show", letters()[0]["letter"], "-c", coordinator.address)
    assert f"<image/png, {len(image[3])} bytes>" in done.stdout.decode(), done.stdout.decode() + done.stderr.decode()
    healed = Simulator(box, name="healed")
    (box.path / "models.sql").write_text(image_model("openai", healed.url).replace("CREATE", "CREATE OR REPLACE"))
    done = box.run("headrace", "models", "create", "models.sql", "-c", coordinator.address)
    assert done.returncode == 0, done.stderr.decode()
    done = box.run("headrace", "dlq", "redrive", letters()[0]["letter"], "-c", coordinator.address)
    assert done.returncode == 0, done.stderr.decode()
    assert [result["tag"] for result in results(box, coordinator, 1)] == tags(box, [f"{says(*image)}\vboom"])


def test_large_images_stay_within_the_bounds(box, redis):
    """Twelve images of 3 MB through a coordinator that may hold 8 MB: slowly, and whole."""
    simulator = Simulator(box)
    (box.path / "models.sql").write_text(image_model("openai", simulator.url))
    coordinator = Coordinator(box, redis, "--models", box.path / "models.sql", "--model", "m", "--max-bytes", "8MB")
    Worker(box, coordinator, "--max-dispatch-bytes", "8M")
    rows = []
    for i in range(12):
        (box.path / f"{i}.png").write_bytes(png(3, 3, i) + b"\0" * 3_000_000)
        rows.append({"id": i, "text": f"t{i}", "photo": f"{i}.png"})
    submit = box.start("submit", box.bin / "headrace", "submit", "-c", coordinator.address, "-m", "m", "-i",
                       write_jsonl(box.path / "in.jsonl", rows))
    got = results(box, coordinator, 12)
    assert submit.wait(240) == 0, submit.log
    assert [(int(result["id"]), result["error"]) for result in got] == [(i, None) for i in range(12)]
    assert len({result["tag"] for result in got}) == 12
    # No call carried more than fits beside one image into a full batch.
    assert max(len(call["answered"]) for call in simulator.calls()) <= 3
    wait_for("nothing is held", lambda: coordinator.metrics()["headrace_queued_records"] == 0)


IMAGE = base64.b64encode(png(2, 2)).decode()


def chat(url, **more):
    return {"model": "m", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": url, **more}}]}]}


def responses(url, **more):
    return {"model": "m", "input": [{"role": "user", "content": [{"type": "input_image", "image_url": url, **more}]}]}


def messages(n=1, **source):
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [
        {"type": "text", "text": "a"}, *[{"type": "image", "source": source}] * n]}]}


def generate(**data):
    return {"contents": [{"role": "user", "parts": [{"text": "a"}, {"inlineData": data}]}]}


BEARER = {"Authorization": f"Bearer {KEY}"}
ANTHROPIC = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
GEMINI = {"x-goog-api-key": KEY}
C, R, A, G = "/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1beta/models/m:generateContent"
PNG_URL = f"data:image/png;base64,{IMAGE}"
DATA = {"type": "base64", "media_type": "image/png", "data": IMAGE}


@pytest.mark.parametrize("path,body,headers,status,words", [
    (C, chat(PNG_URL), BEARER, 200, ""),
    (C, chat(PNG_URL, detail="low"), BEARER, 200, ""),
    (C, chat(PNG_URL, detail="best"), BEARER, 400, "detail"),
    (C, chat(PNG_URL, more=1), BEARER, 400, "more"),
    (C, chat("https://h/a.png"), BEARER, 200, ""),
    (C, chat("file:///etc/passwd"), BEARER, 400, "URL"),
    (C, chat(IMAGE), BEARER, 400, "URL"),
    (C, chat(f"data:image/jpeg;base64,{IMAGE}"), BEARER, 400, "appears"),
    (C, chat(f"data:image/png,{IMAGE}"), BEARER, 400, "base64"),
    (C, chat(PNG_URL.rstrip("=")[:-1]), BEARER, 400, "base64"),
    (C, chat("data:image/png;base64,AAAA"), BEARER, 400, "unsupported image"),
    (C, chat(""), BEARER, 400, "URL"),
    (C, {"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": PNG_URL}]}]}, BEARER,
     400, "object"),
    (C, {"model": "m", "messages": [{"role": "system", "content": chat(PNG_URL)["messages"][0]["content"]}]}, BEARER,
     400, "only text"),
    (C, {"model": "m", "messages": [{"role": "user", "content": [{"type": "input_image", "image_url": PNG_URL}]}]}, BEARER,
     400, "type"),
    (R, responses(PNG_URL), BEARER, 200, ""),
    (R, responses(PNG_URL, detail="high"), BEARER, 200, ""),
    (R, responses({"url": PNG_URL}), BEARER, 400, "string"),
    (A, messages(**DATA), ANTHROPIC, 200, ""),
    (A, messages(type="url", url="https://h/a.png"), ANTHROPIC, 200, ""),
    (A, messages(type="url", url="https://h/a.png", media_type="image/png"), ANTHROPIC, 400, "media_type"),
    (A, messages(type="base64", data=IMAGE), ANTHROPIC, 400, "Field required"),
    (A, messages(type="base64", media_type="image/png"), ANTHROPIC, 400, "Field required"),
    (A, messages(**{**DATA, "media_type": "image/webp"}), ANTHROPIC, 400, "appears to be a image/png"),
    (A, messages(**{**DATA, "data": PNG_URL}), ANTHROPIC, 400, "base64"),
    (A, messages(**{**DATA, "data": base64.b64encode(png(8001, 1)).decode()}), ANTHROPIC, 400, "8000"),
    (A, messages(**{**DATA, "data": "A" * 10485764}), ANTHROPIC, 400, "10 MB"),
    (A, messages(100, **DATA), ANTHROPIC, 200, ""),
    (A, messages(101, **DATA), ANTHROPIC, 400, "at most 100"),
    (G, generate(mimeType="image/png", data=IMAGE), GEMINI, 200, ""),
    (G, generate(mimeType="image/png"), GEMINI, 400, "initialized"),
    (G, generate(mimeType="image/gif", data=base64.b64encode(gif(1, 1)).decode()), GEMINI, 400, "unsupported image"),
    (G, generate(mimeType="image/png", data=IMAGE, fileUri="x"), GEMINI, 400, "fileUri"),
])
def test_the_simulator_refuses_images_that_the_vendor_refuses(box, path, body, headers, status, words):
    simulator = Simulator(box, "--api-key", KEY)
    got, text = post(simulator, path, body, headers)
    assert (got, words in text) == (status, True), text
