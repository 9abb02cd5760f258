#!/usr/bin/env python3
"""The producer and the consumer of the chaos tests, as a stranger would write them; made to be killed.

usage: peers.py producer ADDRESS NAME SEED LOG RATE START TOTAL STOP_FILE
       peers.py consumer ADDRESS NAME SEED LOGS DIE_RATE
       peers.py crowd ADDRESS NAME SEED LOG N
       peers.py stranger ADDRESS NAME SEED - N

The producer makes record N of its name from the name, the seed and N alone, so it needs no memory: RATE
records a second since START (Unix time), to TOTAL, or until STOP_FILE is there. LOG gets "S N" before
record N is sent and "A N" when all up to N are acked.

The consumer writes a file LOGS.K each time it starts: a line for each partition "P OSEQ" (where it stands), then
"= PARTITION OSEQ PRODUCER SEQ CODE TAG" for each result it used, "d" for one that came twice, "g" for a
gap. It acks after it wrote, and with the rate DIE_RATE ends in between.

A crowd is N workers that take no calls; LOG gets "K MS" when the K-th was welcomed. A stranger sends N frames of
which none is right. With $CHAOS_REPLAY a producer begins by sending all that was accepted once more, in an order
that the number there decides.
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

PING, PONG, HELLO, WELCOME, REPORT = 0x02, 0x03, 0x10, 0x11, 0x13
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

    def begin_again(self, greet):
        """After a refusal. All that was on its way to one that is gone is refused: once is enough for that."""
        end = time.monotonic() + 0.1
        while (left := end - time.monotonic()) > 0:
            if self.socket.poll(left * 1000):
                self.socket.recv()
        greet()

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
        self.replay = int(os.environ.get("CHAOS_REPLAY", "0"))

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

    def send_all_again(self):
        """Everything that was accepted, in blocks of any order: skipped."""
        firsts = list(range(1, self.sent + 1, 50))
        random.Random(self.replay).shuffle(firsts)
        for first in firsts:
            self.append(first, min(50, self.sent - first + 1))

    def open(self):
        self.is_open, self.n_gaps = False, 0
        self.say(OPEN, producer=self.name, model="tag")

    def hear_one(self):
        kind, fields = self.hear(0.05)
        if kind == OPENED:
            self.sent = self.acked = fields["upto"]
            self.limit = fields["limit"]
            self.is_open, self.flushed = True, False
            if self.replay > 0:
                self.send_all_again()
            elif self.chance.random() < MISCHIEF:
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
            self.begin_again(self.open)
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


class Crowd:
    """Many workers with no room for a call."""

    def __init__(self, address, name, seed, log, n):
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.name, self.welcome, self.sockets = name, {}, {}
        self.poller = zmq.Poller()
        zmq.Context.instance().set(zmq.MAX_SOCKETS, int(n) + 10)
        for number in range(int(n)):
            socket = zmq.Context.instance().socket(zmq.DEALER)
            socket.linger = 0
            socket.reconnect_ivl, socket.reconnect_ivl_max = 100, 1000
            socket.heartbeat_ivl, socket.heartbeat_timeout = 1000, 3000
            socket.connect(address)
            self.sockets[socket] = number
            self.poller.register(socket, zmq.POLLIN)
            self.hello(socket)

    @staticmethod
    def say(socket, kind, **fields):
        try:
            socket.send(b"HR" + bytes([1, kind]) + msgpack.packb(fields), zmq.NOBLOCK)
        except zmq.Again:
            pass

    def hello(self, socket):
        number = self.sockets[socket]
        self.say(socket, HELLO, worker=f"{self.name}-{number}", incarnation=1, version="0", max_inflight=0,
                 max_bytes=0, held=msgpack.packb([]))

    def hear(self, socket):
        frame = socket.recv()
        if frame[3] == WELCOME:
            os.write(self.log, b"%d %d\n" % (self.sockets[socket], time.time() * 1000))
        elif frame[3] == REFUSED:  # it started anew and does not know me
            self.hello(socket)

    def run(self):
        due = time.monotonic()
        while True:
            for socket, _ in self.poller.poll(200):
                self.hear(socket)
            if time.monotonic() >= due:
                due = time.monotonic() + 1
                for socket in self.sockets:
                    self.say(socket, PING, time=1, worker=True)


class Stranger(Peer):
    """Sends what nobody should: cut, changed, of another version, too long, at the wrong time."""

    def __init__(self, address, name, seed, _, n):
        super().__init__(address)
        self.chance, self.n = random.Random(seed), int(n)

    def make(self):
        kinds = [OPEN, APPEND, FLUSH, SUBSCRIBE, ACK, HELLO, PING, REPORT, 0x15, 0x40, 0x42, 0x44]
        fields = dict(producer="x", model="nobody's", first_seq=1, count=1, records=b"{}", consumer="x", credit=1,
                      partition=self.chance.randrange(1 << 20), upto=1 << 40, batch=self.chance.getrandbits(64), call=1,
                      outcome="ok", items=b"\x91\xc0", worker="x", version="9", max_inflight=1, held=b"\xdd\xff\xff\xff\xff")
        good = b"HR" + bytes([1, self.chance.choice(kinds)]) + msgpack.packb(fields)
        at = self.chance.randrange(4, len(good))
        return self.chance.choice([
            self.chance.randbytes(self.chance.randrange(0, 300)), b"HR\x01" + self.chance.randbytes(40), good[:at],
            b"HR\x02" + good[3:], b"HR\x01\xee" + good[4:], good[:at] + self.chance.randbytes(3) + good[at + 3:],
            b"HR\x01\x20\xdf\xff\xff\xff\xff", b"HR\x01\x22\x81\xa7records\xc6\x7f\xff\xff\xff" + bytes(1000),
            b"HR\x01\x20" + b"\x81\xa1x" * 5000, good])

    def run(self):
        for number in range(self.n):
            self.socket.send(self.make())
            if number % 50 == 0:
                self.heard = time.monotonic()
                while self.socket.poll(1):
                    self.socket.recv()
            if number == self.n // 2:  # too long by far: the connection is cut, and nothing else
                self.socket.send(b"HR\x01\x22" + bytes(200 << 20))
                self.connect()
        self.socket.send(b"HR\x01" + bytes([PING]) + msgpack.packb({"time": 7}))
        while True:
            kind, fields = self.hear(10)
            if kind is None:
                sys.exit("no answer to a good PING")
            if kind == PONG and fields["time"] == 7:
                return


if __name__ == "__main__":
    if len(sys.argv) < 7:
        sys.exit(__doc__)
    {"producer": Producer, "consumer": Consumer, "crowd": Crowd, "stranger": Stranger}[sys.argv[1]](*sys.argv[2:]).run()
