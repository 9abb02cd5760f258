"""The protocol as a stranger would write it: docs/protocol.md in a few lines of Python."""
import time

import msgpack
import zmq

KINDS = {
    "REFUSED": 0x01, "PING": 0x02, "PONG": 0x03, "BYE": 0x04,
    "HELLO": 0x10, "WELCOME": 0x11, "DISPATCH": 0x12, "REPORT": 0x13, "TAKEN": 0x14,
    "MODEL_GET": 0x15, "MODEL": 0x16,
    "JOB": 0x18, "JOB_LINES": 0x19, "JOB_GOT": 0x1A, "JOB_DONE": 0x1B, "JOB_ANSWERS": 0x1C, "JOB_TAKEN": 0x1D,
    "OPEN": 0x20, "OPENED": 0x21, "APPEND": 0x22, "ACKED": 0x23, "FLUSH": 0x24,
    "SUBSCRIBE": 0x30, "SUBSCRIBED": 0x31, "RESULTS": 0x32, "ACK": 0x33,
    "CREATE": 0x40, "CREATED": 0x41, "STATUS_GET": 0x42, "STATUS": 0x43, "LETTERS": 0x44, "RESUME": 0x45,
}
NAMES = {kind: name for name, kind in KINDS.items()}


def frame(name, /, **fields):
    return b"HR" + bytes([1, KINDS[name]]) + msgpack.packb(fields)


class Peer:
    """One DEALER connection; says and hears whole messages."""

    def __init__(self, address):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(address)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def say(self, name, /, **fields):
        self.socket.send(frame(name, **fields))

    def say_bytes(self, *parts):
        self.socket.send_multipart(parts)

    def hear(self, timeout=10):
        """The next message as (name, fields), or (None, {}) when nothing came in time."""
        if not self.socket.poll(timeout * 1000):
            return None, {}
        got = self.socket.recv()
        assert got[:3] == b"HR\x01", got[:16]
        return NAMES[got[3]], msgpack.unpackb(got[4:])

    def hear_kind(self, name, timeout=10):
        """The fields of the next message of a kind; others are passed over, but a refusal fails."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            kind, fields = self.hear(left)
            if kind == name:
                return fields
            assert kind != "REFUSED", fields
        raise AssertionError(f"no {name} in {timeout} s")
