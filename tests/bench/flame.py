#!/usr/bin/env python3
"""Where the processor time goes: samples the stacks of all processes of `headrace run`, file to file, the provider
answering at once, and draws them as one flame picture. Prints the share of each process and library.

    tests/bench/flame.py [--batch 20] [--records N] [--bin build/bin] [--out build/bench/flame.svg]

Needs perf (Debian: linux-perf), and the right to sample the kernel too: root, or kernel.perf_event_paranoid at 1.
"""
import argparse
import collections
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from xml.sax.saxutils import escape

import kit

HZ = 299       # not a divisor of the processes' own timers
STACK = 24576  # bytes of stack a sample: libuv and libzmq keep their events there, libuv 12 kB of them
LEAST = 0.003  # a narrower frame is left out
WIDTH, ROW, EDGE = 1200, 17, 6
FONT = 'font-family="sans-serif" font-size="10.5"'
NO_RANDOM_ADDRESSES = 0x0040000  # ADDR_NO_RANDOMIZE of personality(2)

# What the kernel calls a process (15 letters) and what we call it, in the order of the picture.
PROCESSES = {"headrace-coordi": "coordinator", "headrace-worker": "worker", "headrace": "headrace run",
             "redis-server": "redis-server", "headrace-provid": "provider simulator"}
SIMULATOR = "provider simulator"
# Whose a frame is, by the start of its file's name: columns of the table. What fits nothing is "other".
OWNERS = {"own code": ("headrace",), "kernel": ("[kernel",), "libc": ("libc.", "libm.", "ld-", "[vdso"),
          "libzmq": ("libzmq", "libstdc++"), "libcurl": ("libcurl",), "json-c": ("libjson-c",),
          "redis": ("redis", "libjemalloc", "liblzf", "liblua")}
KERNEL_DEPTH = 6  # frames of a system call that are shown
COLOURS = {"own code": "#ffb35c", "kernel": "#9fc5f5", "libc": "#f0e08c", "redis": "#f3a79b", "other": "#a9dcae",
           "process, thread": "#cfc8ea", SIMULATOR: "#d9d9d9"}
# Frames that say nothing: how every thread starts and every system call begins.
DULL = {"_start", "__libc_start_main", "__libc_start_call_main", "clone3", "start_thread", "do_syscall_64",
        "entry_SYSCALL_64_after_hwframe"}


# ---- Sampling --------------------------------------------------------------------------------------

def perf_record(path, *more):
    return ["perf", "record", "-q", "-e", "cpu-clock:uk", "-F", str(HZ), "--call-graph", f"dwarf,{STACK}", "-o", path,
            *more, "--"]


def check_perf(folder):
    """Ends the program when perf is not there or may not sample the kernel too."""
    if not shutil.which("perf"):
        sys.exit("perf is not there; install it: apt-get install linux-perf")
    with open("/proc/sys/kernel/perf_event_paranoid") as f:
        is_refused = os.geteuid() != 0 and int(f.read()) > 1
    if is_refused or subprocess.run([*perf_record(f"{folder}/probe"), "true"], capture_output=True).returncode != 0:
        sys.exit("perf may not sample here; run as root, or: sysctl kernel.perf_event_paranoid=1")


def sample(box, batch, n):
    """Runs n records under perf; returns the seconds it took and what `perf script` says of all stacks."""
    # Without it perf's unwinder now and then loses all stacks that go through libraries.
    ctypes.CDLL(None).personality(NO_RANDOM_ADDRESSES)
    simulator, port = box.simulator("provider", ledger=False)
    model, rows = kit.write_model(f"{box.folder}/m.sql", port, batch), kit.write_rows(f"{box.folder}/rows", n)
    files = [f"{box.folder}/run.perf", f"{box.folder}/simulator.perf"]
    under = [*perf_record(files[1], "-p", str(simulator.pid)), *perf_record(files[0])]
    seconds = kit.run(box, model, rows, f"{box.folder}/out", under=under)
    read = ["perf", "script", "--no-inline", "-F", "comm,pid,tid,ip,sym,dso", "-i"]
    return seconds, "".join(subprocess.run([*read, path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                           check=True).stdout for path in files)


# ---- Folding ---------------------------------------------------------------------------------------

def frame_of(line):
    """A line `address function (file)` as (owner, name); None for one that says nothing."""
    found = re.match(r"\s*([0-9a-f]+) (.*) \((.*)\)$", line)
    if not found or found[1] == "f" * 16:  # the unwinder's word for: no further
        return None
    name, file = re.split(r"[@.]", found[2])[0], os.path.basename(found[3])
    if name in DULL:
        return None
    if found[1].startswith("ffff") and len(found[1]) == 16:
        file = "[kernel]"
    elif file == "redis-check-rdb":  # Debian's redis-server is a link to it
        file = "redis-server"
    owner = next((owner for owner, starts in OWNERS.items() if file.startswith(starts)), "other")
    return owner, "[" + file.split(".so")[0].strip("[]") + "]" if found[2] == "[unknown]" else name


def fold(script):
    """Counts equal stacks: a row of (owner, name) from the process through the thread up to the function that ran."""
    samples, names = [], {}
    for text in script.split("\n\n"):
        head, *lines = text.strip("\n").split("\n")
        found = re.match(r"(.+?)\s+(\d+)/(\d+)\s*$", head)
        if found:
            if found[2] == found[3]:
                names[found[2]] = found[1]  # the last one counts: a child has its parent's until it is itself
            samples.append((*found.groups(), [frame for frame in map(frame_of, reversed(lines)) if frame]))
    stacks = collections.Counter()
    for comm, pid, tid, frames in samples:
        process = PROCESSES.get(names.get(pid, comm), "other")
        thread = "main thread" if pid == tid else "ZMQ I/O" if comm.startswith("ZMQbg/IO") else comm
        # Functions without names, one on another, are one frame of their library.
        frames = [frame for i, frame in enumerate(frames) if i == 0 or frame != frames[i - 1] or frame[1][0] != "["]
        n_kernel = sum(frame[0] == "kernel" for frame in frames)
        frames = frames[:len(frames) - max(0, n_kernel - KERNEL_DEPTH)]
        stacks[(("process, thread", process), ("process, thread", thread), *frames)] += 1
    return stacks


# ---- Telling ---------------------------------------------------------------------------------------

def tell(stacks, batch, n, seconds, out):
    """The table: percent of all samples, by process and by the owner of the function that ran."""
    total, count = sum(stacks.values()), collections.Counter()
    for stack, times in stacks.items():
        owner = stack[-1][0] if len(stack) > 2 else "other"
        for process in (stack[0][1], "all"):
            count[process, owner] += times
            count[process, "all"] += times
    owners = [*OWNERS, "other"]
    rows = [[process, f"{count[process, 'all'] / HZ / n * 1e6:.2f}",
             *(f"{100 * count[process, owner] / total:.1f}" for owner in ["all", *owners])]
            for process in [*PROCESSES.values(), "other", "all"] if count[process, "all"]]
    kit.Report("flame", out).table(
        f"Processor time at batch.size {batch}, percent of all; {n:,} records in {seconds:.1f} s, sampled {total:,} times",
        ["process", "µs a record", "percent", *owners], rows)


# ---- Drawing ---------------------------------------------------------------------------------------

def tree_of(stacks):
    """Stacks as a tree of nodes [samples, {(owner, name): node}]."""
    root = [0, {}]
    for stack, times in stacks.items():
        node = root
        node[0] += times
        for frame in stack:
            node = node[1].setdefault(frame, [0, {}])
            node[0] += times
    return root


def draw(path, stacks, title):
    root = tree_of(stacks)
    total, wide = root[0], WIDTH - 2 * EDGE
    order = list(PROCESSES.values())
    boxes, deepest = [], 0

    def place(node, x, depth, is_simulator):
        """Lays the children of a node side by side above it; processes in our order, the rest widest first."""
        nonlocal deepest
        by = (lambda c: order.index(c[0][1]) if c[0][1] in order else 9) if depth == 0 else (lambda c: (-c[1][0], c[0]))
        for (owner, name), child in sorted(node[1].items(), key=by):
            width = wide * child[0] / total
            if child[0] >= LEAST * total:
                deepest = max(deepest, depth)
                mark = is_simulator or name == SIMULATOR
                boxes.append((x, depth, width, name, child[0] / total, SIMULATOR if mark else owner))
                place(child, x, depth + 1, mark)
            x += width
    place(root, EDGE, 0, False)
    height = 44 + ROW * (deepest + 1) + EDGE
    kinds = list(COLOURS)  # of colours; an owner without one is "other"
    styles = "".join(f".c{i}{{fill:{colour}}}" for i, colour in enumerate(COLOURS.values()))
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT}>',
           f"<style>{styles}rect{{stroke:#fff;stroke-width:.6}}text{{fill:#222}}</style>",
           '<rect width="100%" height="100%" fill="#fff"/>',
           f'<text x="{EDGE}" y="17" font-size="13" font-weight="bold">{escape(title)}</text>']
    for i, kind in enumerate(kinds):
        label = "other libraries" if kind == "other" else kind
        out.append(f'<rect x="{EDGE + 130 * i}" y="25" width="12" height="12" class="c{i}"/>'
                   f'<text x="{EDGE + 16 + 130 * i}" y="35">{label}</text>')
    for x, depth, width, name, share, owner in boxes:
        y = height - EDGE - ROW * (depth + 1)
        letters = int((width - 3) / 5.8)
        label = name if len(name) <= letters else name[:letters - 1] + "…" if letters >= 4 else ""
        kind = kinds.index(owner if owner in kinds else "other")
        bold = ' font-weight="bold"' if depth == 0 else ""
        text = f'<text x="{x + 2:.1f}" y="{y + 12}"{bold}>{escape(label)}</text>' if label else ""
        out.append(f'<g><title>{escape(name)}: {100 * share:.1f} %</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" '
                   f'height="{ROW}" class="c{kind}"/>{text}</g>')
    with open(path, "w") as f:
        f.write("\n".join([*out, "</svg>"]) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--batch", type=int, default=20)
    p.add_argument("--records", type=int, help="default: 100,000 times the batch, a million at most")
    p.add_argument("--bin", default=os.environ.get("HEADRACE_BIN", os.path.join(kit.ROOT, "build/bin")))
    p.add_argument("--out", default=os.path.join(kit.ROOT, "build/bench/flame.svg"))
    args = p.parse_args()
    n = args.records or min(1_000_000, 100_000 * args.batch)
    if not os.path.exists(f"{args.bin}/headrace"):
        p.error(f"no headrace in {args.bin}: build it first (deploy/quickstart does)")
    with tempfile.TemporaryDirectory() as folder:
        check_perf(folder)
        box = kit.Box(folder, os.path.abspath(args.bin))
        try:
            seconds, script = sample(box, args.batch, n)
        finally:
            box.stop()
    stacks = fold(script)
    tell(stacks, args.batch, n, seconds, os.path.dirname(os.path.abspath(args.out)))
    draw(args.out, stacks, f"Where the processor time goes, file to file at batch.size {args.batch}: width is time")
    print(f"\n{args.out}: {os.path.getsize(args.out) / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
