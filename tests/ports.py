"""Ports for programs that must be told one beforehand.

A port that the kernel hands out for port 0 may be given to somebody's outgoing connection between our
asking and the program's binding it, so ours lie outside that range; none is given twice by one process, nor by two
that pytest-xdist runs beside each other.
"""
import os
import pathlib
import socket


def _candidates():
    low, high = map(int, pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = list(range(10000, low)) or list(range(high + 1, 65536))
    beside = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    ports = ports[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])::beside]
    start = os.getpid() * 101 % len(ports)  # other processes begin elsewhere
    return iter(ports[start:] + ports[:start])


_ports = _candidates()


def free_port():
    for port in _ports:
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError("no free port is left")
