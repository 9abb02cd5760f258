#!/usr/bin/env python3
"""Sends the rows of a JSON Lines file through a PUSH socket: no acks, ZeroMQ's back-pressure.

usage: producer_push.py ADDRESS FILE [MODEL]

ADDRESS is the coordinator's --bind-in. MODEL is only needed when the coordinator has no --model.
When headrace is full, send() blocks until there is room again.
"""
import itertools
import json
import sys

import msgpack
import zmq

ROWS = 100  # in a frame: one is fine too, many are cheaper


def envelope(line, model):
    """One row as a msgpack map that says which model answers it."""
    fields = json.loads(line)
    row = {"fields": fields, "model": model}
    if "id" in fields:
        row["id"] = fields.pop("id")
    return msgpack.packb(row)


def main(address, file, model=None):
    socket = zmq.Context.instance().socket(zmq.PUSH)
    socket.linger = -1  # leaving waits until everything is sent
    socket.connect(address)
    with open(file, "rb") as lines:
        rows = (line.rstrip(b"\n") + b"\n" for line in lines if line.strip())
        if model:
            rows = (envelope(row, model) for row in rows)
        while frame := b"".join(itertools.islice(rows, ROWS)):
            socket.send(frame)
    socket.close()
    zmq.Context.instance().term()


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
