#!/usr/bin/env python3
"""Takes results with acks: each one is in the output once, whatever is killed, this program too.

usage: consumer_dealer.py ADDRESS CONSUMER OUTPUT [COUNT]

ADDRESS is the coordinator's --bind. CONSUMER is a name that stays the same when this is started again.
An output line is "PARTITION OSEQ RESULT". So the output itself tells what is there already: a result
that comes twice has a number that is not above its partition's last one. A result is acked after it is
on the disk. Stops when OUTPUT has at least COUNT lines. See docs/protocol.md.
"""
import os
import sys

import msgpack
import zmq

REFUSED, SUBSCRIBE, RESULTS, ACK = 0x01, 0x30, 0x32, 0x33
TRY_AGAIN = {"not-subscribed", "bad-ack", "starting", "stopping"}
CREDIT = 1000      # most results sent and not yet acked
AGAIN_MS = 100     # after a refusal
SILENCE_MS = 1000  # then ask whether the coordinator still knows us


def read_output(output):
    """Opens the output; returns it, the last number of each partition, and the number of lines."""
    last, n, end = {}, 0, 0
    out = open(output, "a+b")
    out.seek(0)
    for line in out:
        if line.endswith(b"\n"):  # else: torn by a power cut; it was not acked and comes again
            partition, oseq, _ = line.split(b" ", 2)
            last[int(partition)] = int(oseq)
            n, end = n + 1, end + len(line)
    out.truncate(end)
    return out, last, n


def main(address, consumer, output, count=0):
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.linger = 1000  # the last ACK
    socket.connect(address)
    out, last, n = read_output(output)

    def send(kind, **fields):
        socket.send(b"HR" + bytes([1, kind]) + msgpack.packb(fields))

    def subscribe():
        send(SUBSCRIBE, consumer=consumer, credit=CREDIT, format="json")

    again = True  # SUBSCRIBE once all that is under way was read: one answers any number of refusals
    while count == 0 or n < count:
        if not socket.poll(AGAIN_MS if again else SILENCE_MS):
            if again:
                subscribe()
            else:
                send(ACK, partition=0, upto=0)  # says nothing new; a restarted coordinator refuses it
            again = False
            continue
        frame = socket.recv()
        kind, fields = frame[3], msgpack.unpackb(frame[4:])
        if kind == REFUSED and fields["code"] in TRY_AGAIN:
            again = True
        elif kind == REFUSED:
            sys.exit(f"{fields['code']}: {fields['message']}")
        elif kind == RESULTS:
            partition = fields["partition"]
            for oseq, result in enumerate(fields["results"].splitlines(), fields["first_oseq"]):
                if oseq > last.get(partition, 0):
                    out.write(b"%d %d %s\n" % (partition, oseq, result))
                    last[partition] = oseq
                    n += 1
            out.flush()
            os.fsync(out.fileno())
            send(ACK, partition=partition, upto=fields["first_oseq"] + fields["count"] - 1)
    socket.close()
    zmq.Context.instance().term()


if __name__ == "__main__":
    if not 4 <= len(sys.argv) <= 5:
        sys.exit(__doc__)
    main(*sys.argv[1:4], int(sys.argv[4]) if len(sys.argv) > 4 else 0)
