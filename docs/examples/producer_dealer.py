#!/usr/bin/env python3
"""Sends the rows of a JSON Lines file with acks: every row is accepted once, whatever is killed.

usage: producer_dealer.py ADDRESS PRODUCER MODEL FILE

ADDRESS is the coordinator's --bind. PRODUCER is a name that stays the same when this is started again
with the same file. A row's sequence is its place in the file, so nothing has to be kept here: what was
not acked is read again. See docs/protocol.md.
"""
import itertools
import sys
import time

import msgpack
import zmq

REFUSED, OPEN, OPENED, APPEND, ACKED, FLUSH = 0x01, 0x20, 0x21, 0x22, 0x23, 0x24
TRY_AGAIN = {"not-open", "gap", "over-limit", "starting", "stopping"}
ROWS = 200           # in one APPEND
SILENCE_MS = 3000    # then OPEN again: the coordinator may be a new one


def rows_after(file, n):
    """The file's rows after the first n; empty lines are no rows."""
    with open(file, "rb") as lines:
        rows = (line.rstrip(b"\n") + b"\n" for line in lines if line.strip())
        yield from itertools.islice(rows, n, None)


class Producer:
    def __init__(self, address, name, model, file):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(address)
        self.name, self.model, self.file = name, model, file
        self.rows = None               # what comes after `sent`; None: not open
        self.at_end = False
        self.sent = self.acked = 0     # sequences, from 1
        self.limit = 0                 # up to here rows may be sent

    def send(self, kind, **fields):
        self.socket.send(b"HR" + bytes([1, kind]) + msgpack.packb(fields))

    def open(self):
        self.rows = None
        self.send(OPEN, producer=self.name, model=self.model)

    def send_rows(self):
        while self.rows is not None and not self.at_end and self.sent < self.limit:
            chunk = list(itertools.islice(self.rows, min(ROWS, self.limit - self.sent)))
            if chunk:
                self.send(APPEND, first_seq=self.sent + 1, count=len(chunk), records=b"".join(chunk))
                self.sent += len(chunk)
            else:
                self.at_end = True
                self.send(FLUSH)       # nothing follows: do not wait for batch.timeout.ms

    def receive(self):
        if not self.socket.poll(SILENCE_MS):
            self.open()
            return
        frame = self.socket.recv()
        kind, fields = frame[3], msgpack.unpackb(frame[4:])
        if kind == OPENED:
            self.sent = self.acked = fields["upto"]
            self.limit = fields["limit"]
            self.rows = rows_after(self.file, self.acked)
            self.at_end = False
        elif kind == ACKED and self.rows is not None:
            self.acked, self.limit = fields["upto"], fields["limit"]
        elif kind == REFUSED and fields["code"] not in TRY_AGAIN:
            sys.exit(f"{fields['code']}: {fields['message']}")
        elif kind == REFUSED and (self.rows is not None or fields["code"] in ("starting", "stopping")):
            time.sleep(0.1)
            self.open()                # a second refusal of what was sent before is passed over

    def run(self):
        self.open()
        while not self.at_end or self.rows is None or self.acked < self.sent:
            self.receive()
            self.send_rows()
        print(f"{self.acked} rows acked")


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    Producer(*sys.argv[1:]).run()
