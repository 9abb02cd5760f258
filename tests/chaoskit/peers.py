#!/usr/bin/env python3
"""The producer and the consumer of the chaos tests, as a stranger would write them; made to be killed.

usage: peers.py producer ADDRESS NAME SEED LOG RATE START TOTAL STOP_FILE
       peers.py consumer ADDRESS NAME SEED LOGS DIE_RATE

The producer makes record N of its name from the name, the seed and N alone, so it needs no memory: RATE
records a second since START (Unix time), to TOTAL, or until STOP_FILE is there. LOG gets "S N" before
record N is sent and "A N" when all up to N are acked.

The consumer writes a file LOGS.K each time it starts: a line for each partition "P OSEQ" (where it stands), then
"= PARTITION OSEQ PRODUCER SEQ CODE TAG" for each result it used, "d" for one that came twice, "g" for a
gap. It acks after it wrote, and with the rate DIE_RATE ends in between.
"""
import json
import os
import pathlib
import random
import signal
import sys
import time

import msgpack
import zmq

REFUSED, OPEN, OPENED, APPEND, ACKED, FLUSH = 0x01, 0x20, 0x21, 0x22, 0x23, 0x24
SUBSCRIBE, SUBSCRIBED, RESULTS, ACK = 0x30, 0x31, 0x32, 0x33
# superseded: a message of a dead predecessor came late, out of some buffer. There is never a second one.
TRY_AGAIN = {"not-open", "gap", "over-limit", "starting", "stopping", "not-subscribed", "bad-ack", "superseded"}
ROWS = 200
SILENCE_S = 2
MISCHIEF = 0.3  # how often a producer starts with a gap and with what was acked already


def text_of(seed, producer, seq):
    return f"record {seq} of {producer}, seed {seed}"


class Peer:
    """A DEALER that connects anew when nothing was heard for a while."""

    def __init__(self, address):
        self.address, self.socket = address, None
        self.heard = time.monotonic()
        self.connect()

    def connect(self):
        if self.socket is not None:
            self.socket.close()
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.heartbeat_ivl, self.socket.heartbeat_timeout = 1000, 3000
        self.socket.connect(self.address)
        self.heard = time.monotonic()

    def say(self, kind, **fields):
        try:
            self.socket.send(b"HR" + bytes([1, kind]) + msgpack.packb(fields), zmq.NOBLOCK)
        except zmq.Again:
            pass  # nobody there: silence follows

    def hear(self, timeout):
        if not self.socket.poll(timeout * 1000):
            return None, {}
        frame = self.socket.recv()
        self.heard = time.monotonic()
        return frame[3], msgpack.unpackb(frame[4:])


class Producer(Peer):
    def __init__(self, address, name, seed, log, rate, start, total, stop_file):
        super().__init__(address)
        self.name, self.seed, self.rate, self.start = name, seed, float(rate), float(start)
        self.total, self.stop_file = int(total), pathlib.Path(stop_file)
        before = pathlib.Path(log).read_bytes().split(b"\n")[:-1] if os.path.exists(log) else []
        self.told = max([int(line[2:]) for line in before if line.startswith(b"S ")], default=0)
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.chance = random.Random(f"{seed}{name}{self.told}")
        self.sent = self.acked = self.limit = 0
        self.is_open = self.flushed = False
        self.n_gaps = 0  # refusals that be_naughty has earned

    def note(self, letter, seq):
        os.write(self.log, b"%s %d\n" % (letter, seq))

    def last(self):
        """The last record that exists by now, and whether there will be more."""
        if self.stop_file.exists():
            return self.told, True
        due = int((time.time() - self.start) * self.rate)
        return (self.total, True) if self.total and due >= self.total else (max(due, self.told), False)

    def append(self, first, n):
        rows = "".join(json.dumps({"id": f"{self.name}-{seq}", "text": text_of(self.seed, self.name, seq)}) + "\n"
                       for seq in range(first, first + n))
        if first + n - 1 > self.told:
            self.told = first + n - 1
            self.note(b"S", self.told)
        self.say(APPEND, first_seq=first, count=n, records=rows.encode())

    def be_naughty(self):
        last, _ = self.last()
        if self.sent + 50 < min(last, self.limit):
            self.append(self.sent + 40, 5)            # a gap: refused, nothing taken
            self.n_gaps += 1
        if self.sent > 0:
            first = max(1, self.sent - 30)
            self.append(first, self.sent - first + 1)  # accepted before: skipped

    def open(self):
        self.is_open, self.n_gaps = False, 0
        self.say(OPEN, producer=self.name, model="tag")

    def hear_one(self):
        kind, fields = self.hear(0.05)
        if kind == OPENED:
            self.sent = self.acked = fields["upto"]
            self.limit = fields["limit"]
            self.is_open, self.flushed = True, False
            if self.chance.random() < MISCHIEF:
                self.be_naughty()
        elif kind == ACKED and self.is_open:
            self.limit = fields["limit"]
            if fields["upto"] > self.acked:
                self.acked = fields["upto"]
                self.note(b"A", self.acked)
        elif kind == REFUSED and fields["code"] not in TRY_AGAIN:
            sys.exit(f"{fields['code']}: {fields['message']}")
        elif kind == REFUSED and fields["code"] == "gap" and self.n_gaps > 0:
            self.n_gaps -= 1
        elif kind == REFUSED:
            time.sleep(0.1)
            self.open()
        elif kind is None and time.monotonic() - self.heard > SILENCE_S and (
                not self.is_open or self.acked < self.sent):
            self.connect()
            self.open()

    def run(self):
        self.open()
        while True:
            self.hear_one()
            last, is_end = self.last()
            while self.is_open and self.sent < min(last, self.limit):
                n = min(ROWS, last - self.sent, self.limit - self.sent)
                self.append(self.sent + 1, n)
                self.sent += n
                self.flushed = False
            if is_end and self.is_open and self.acked >= last:
                return
            if is_end and self.is_open and self.sent >= last and not self.flushed:
                self.say(FLUSH)
                self.flushed = True


class Consumer(Peer):
    def __init__(self, address, name, seed, logs, die_rate):
        super().__init__(address)
        self.name, self.die_rate = name, float(die_rate)
        number = 0
        self.last = {}
        while os.path.exists(f"{logs}.{number}"):
            number += 1
        self.chance = random.Random(f"{seed}{number}")
        if number > 0:
            self.read_before(f"{logs}.{number - 1}")
        fresh = f"{logs}.{number}"
        with open(fresh + ".new", "wb") as out:
            out.write(b"".join(b"P %d %d\n" % pair for pair in self.last.items()))
        os.rename(fresh + ".new", fresh)
        self.log = os.open(fresh, os.O_WRONLY | os.O_APPEND)

    def read_before(self, path):
        """Where the one before me stood; its last line may be torn."""
        with open(path, "rb") as lines:
            for line in lines:
                if line.endswith(b"\n") and line[:1] in b"P=":
                    _, partition, oseq, *_ = line.split(b" ")
                    self.last[int(partition)] = int(oseq)

    def use(self, fields):
        partition, out = fields["partition"], []
        for oseq, line in enumerate(fields["results"].splitlines(), fields["first_oseq"]):
            last = self.last.get(partition, 0)
            if oseq <= last:
                out.append(b"d %d %d\n" % (partition, oseq))
                continue
            if oseq > last + 1:
                out.append(b"g %d %d %d\n" % (partition, last, oseq))
            row = json.loads(line)
            code = row["error"]["code"] if row["error"] else "-"
            out.append(f"= {partition} {oseq} {row['producer']} {row['seq']} {code} {row.get('tag')}\n".encode())
            self.last[partition] = oseq
        os.write(self.log, b"".join(out))
        if self.chance.random() < self.die_rate:
            os.kill(os.getpid(), signal.SIGKILL)      # used and not acked
        self.say(ACK, partition=partition, upto=fields["first_oseq"] + fields["count"] - 1)

    def subscribe(self):
        self.say(SUBSCRIBE, consumer=self.name, credit=5000, format="json")

    def run(self):
        again = True  # SUBSCRIBE once all that is under way was read: one answers any number of refusals
        while True:
            kind, fields = self.hear(0.1 if again else 0.5)
            if kind is None and again:
                self.subscribe()
                again = False
            elif kind == RESULTS:
                self.use(fields)
            elif kind == REFUSED and fields["code"] in TRY_AGAIN:
                again = True
            elif kind == REFUSED:
                sys.exit(f"{fields['code']}: {fields['message']}")
            elif kind is None and time.monotonic() - self.heard > SILENCE_S:
                self.connect()
                self.subscribe()


if __name__ == "__main__":
    if len(sys.argv) < 7:
        sys.exit(__doc__)
    {"producer": Producer, "consumer": Consumer}[sys.argv[1]](*sys.argv[2:]).run()
