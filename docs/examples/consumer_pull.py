#!/usr/bin/env python3
"""Takes results from a PULL socket: no acks; what is lost after it was sent stays lost.

usage: consumer_pull.py ADDRESS OUTPUT [COUNT]

ADDRESS is the coordinator's --bind-out. Each message is one result, a JSON object.
Stops after COUNT results; without COUNT it goes on for ever.
"""
import sys

import zmq


def main(address, output, count=0):
    socket = zmq.Context.instance().socket(zmq.PULL)
    socket.connect(address)
    n = 0
    with open(output, "ab") as out:
        while count == 0 or n < count:
            out.write(socket.recv() + b"\n")
            out.flush()
            n += 1


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0)
