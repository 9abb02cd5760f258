"""What the benches share: processes and what they used, records, tables, plots."""
import csv
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TICK = os.sysconf("SC_CLK_TCK")


def wait_for(what, check, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = check()
        if value:
            return value
        time.sleep(0.005)
    sys.exit(f"{what}: not within {seconds} s")


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                 platform.processor() or "unknown processor")
    return (f"{os.cpu_count()} cores of {model}, {platform.machine()}, Linux {platform.release()}; "
            "everything on it, the provider simulator and Redis too")


# ---- Processes -------------------------------------------------------------------------------------

class Box:
    """A folder, and the processes that were started for it; ended by their ids, the last first."""

    def __init__(self, folder, bin_folder):
        self.folder, self.bin, self.children = folder, bin_folder, []
        self.env = {"PATH": os.environ["PATH"], "HOME": folder, "BENCH_KEY": "a-key", "TMPDIR": folder}

    def start(self, name, *argv, program=None, env=None):
        argv = [program or f"{self.bin}/{argv[0]}", *map(str, argv[1:])]
        with open(f"{self.folder}/{name}.log", "ab") as log:
            child = subprocess.Popen(argv, env={**self.env, **(env or {})}, stdin=subprocess.DEVNULL, stdout=log,
                                     stderr=log, start_new_session=True)
        self.children.append(child)
        return child

    def end(self, child):
        """Ends one process in good order."""
        child.send_signal(signal.SIGTERM)
        child.wait()
        self.children.remove(child)

    def stop(self):
        for child in reversed(self.children):
            if child.poll() is None:
                child.kill()
        for child in self.children:
            child.wait()

    def redis(self, name, durable):
        """Returns the process and its address; started again under the same name it has the same data."""
        socket, folder = f"{self.folder}/{name}.sock", f"{self.folder}/{name}"
        os.makedirs(folder, exist_ok=True)
        if os.path.exists(socket):
            os.unlink(socket)
        child = self.start(name, "redis-server", "--port", "0", "--unixsocket", socket, "--dir", folder, "--save",
                           "", "--appendonly", "yes" if durable else "no", "--appendfsync", "always",
                           program="redis-server")
        wait_for(name, lambda: os.path.exists(socket))
        return child, f"unix:{socket}"

    def simulator(self, name, *options, ledger=True):
        """Starts a provider simulator; returns its process and its port."""
        port_file = f"{self.folder}/{name}.port"
        if os.path.exists(port_file):
            os.unlink(port_file)
        more = ("--ledger", f"{self.folder}/{name}.ledger") if ledger else ()
        child = self.start(name, "headrace-provider", "--bind", "127.0.0.1:0", "--port-file", port_file, "--control",
                           *more, *options)
        return child, int(wait_for(name, lambda: os.path.exists(port_file) and open(port_file).read().strip()))

    def coordinator(self, name, redis, durability, *options, address=None):
        """Returns the process and the coordinator's address; it is open."""
        address = address or f"ipc://{self.folder}/{name}"
        child = self.start(name, "headrace-coordinator", "--bind", address, "--redis", redis, "--namespace", name,
                           "--partitions", "4", "--durability", durability, "--max-bytes", "4GB", "--log-level",
                           "warn", *options)
        wait_for(name, lambda: (self.ask(address, "status") or {}).get("open"))
        return child, address

    def ask(self, address, *command):
        done = subprocess.run([f"{self.bin}/headrace", *command, "--coordinator", address, "--timeout", "10s"],
                              capture_output=True, text=True, env=self.env)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def ledger(self, name):
        with open(f"{self.folder}/{name}.ledger") as f:
            return [json.loads(line) for line in f if line.endswith("}\n")]


def cpu_s(pid):
    """Seconds of processor time that a process has used."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def processors_s():
    """Seconds that the machine's processors have been busy, and all that there were."""
    with open("/proc/stat") as f:
        fields = [int(x) / TICK for x in f.readline().split()[1:9]]
    return sum(fields) - fields[3] - fields[4], sum(fields)


def memory_kb(pid, field):
    """field: VmRSS, what it has now; VmHWM, the most it had."""
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(field + ":"))


def children_of(pid):
    """Name and id of the processes that a process has started."""
    found = {}
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat") as f:
                head, rest = f.read().rsplit(")", 1)
            if rest.split()[1] == str(pid):
                found[head.split("(", 1)[1]] = int(name)
        except (OSError, IndexError):
            pass
    return found


# ---- Records ---------------------------------------------------------------------------------------

def reviews():
    """The real reviews, as rows; the sample's 300 in a clone that has no more."""
    more = f"{ROOT}/../shared/data/reviews.jsonl"
    with open(more if os.path.exists(more) else f"{ROOT}/samples/reviews.jsonl") as f:
        return [json.loads(line) for line in f if line.strip()]


def write_rows(path, n):
    """n rows {"id", "text", "label"}; the real reviews, as often as it takes. Returns the path."""
    rows = reviews()
    with open(path, "w") as f:
        for i in range(n):
            row = rows[i % len(rows)]
            f.write(json.dumps({"id": f"r{i}", "text": row["text"], "label": row["label"]}) + "\n")
    return path


def write_model(path, port, batch, **more):
    """The batching proposal's model; batch 1 is the plain prompt. Returns the path."""
    options = {"provider": "openai", "endpoint": f"http://127.0.0.1:{port}/v1/chat/completions",
               "model": "gpt-5.4-mini", "api_key": "${BENCH_KEY}", "task": "classification", "batch.size": batch,
               "batch.timeout.ms": 200, "system.prompt": "You are a sentiment analyzer. Always respond with valid JSON.",
               "prompt.template": 'Analyze sentiment. Return JSON: {"sentiment": "<positive|negative|neutral>"}',
               "batch.prompt.template": "Analyze sentiment for these texts. Return JSON array: "
                                        '[{"index": <n>, "sentiment": "<positive|negative|neutral>"}]', **more}
    if batch == 1:
        del options["batch.prompt.template"]
    with open(path, "w") as f:
        f.write("CREATE MODEL m INPUT (text STRING) OUTPUT (sentiment STRING) WITH (" +
                ", ".join("'{}' = '{}'".format(k, str(v).replace("'", "''")) for k, v in options.items()) + ");\n")
    return path


def run(box, model, rows, out, *options, env=None, under=()):
    """`headrace run` of rows into out; returns the seconds that it took. Any failure ends the bench.
    under: a command and its arguments that start it, such as perf."""
    begin = time.monotonic()
    done = subprocess.run([*under, f"{box.bin}/headrace", "run", "-f", model, "-m", "m", "-i", rows, "-o", out, *map(str, options)],
                          capture_output=True, text=True, env={**box.env, **(env or {})})
    if done.returncode != 0:
        sys.exit(f"headrace run: status {done.returncode}\n{done.stderr[-2000:]}")
    return time.monotonic() - begin


def command(box, at, *argv):
    done = subprocess.run([f"{box.bin}/headrace", *map(str, argv), "--coordinator", at], capture_output=True, text=True,
                          env=box.env)
    if done.returncode != 0:
        sys.exit(f"headrace {argv[0]}: status {done.returncode}\n{done.stderr[-2000:]}")


def send(box, at, model, rows, n, name):
    """Submits n rows to a coordinator and takes the n results; returns the seconds from the first to the last."""
    begin = time.monotonic()
    command(box, at, "submit", "-f", model, "-m", "m", "-i", rows, "--producer", name, "--quiet")
    command(box, at, "collect", "-o", "/dev/null", "--count", n, "--consumer", "bench", "--quiet")
    return time.monotonic() - begin


# ---- What is told ----------------------------------------------------------------------------------

def median(values):
    return statistics.median(values)


def alternate(rounds, cases):
    """Runs every case in each round, in turn, so that a noisy minute meets all of them. cases: name -> function
    that returns a figure. Returns name -> figures."""
    figures = {name: [] for name in cases}
    for i in range(rounds):
        for name, measure in cases.items():
            figures[name].append(measure())
            print(f"  round {i + 1} of {rounds}: {name}: {figures[name][-1]:,.5g}", file=sys.stderr, flush=True)
    return figures


class Report:
    """The tables of one bench: printed, and a CSV of each; and its goals."""

    def __init__(self, name, out):
        self.name, self.out, self.goals, self.n_tables = name, out, [], 0
        os.makedirs(out, exist_ok=True)
        print(f"\n== {name}", flush=True)

    def table(self, title, columns, rows):
        self.n_tables += 1
        path = f"{self.out}/{self.name}{'' if self.n_tables == 1 else f'-{self.n_tables}'}.csv"
        with open(path, "w", newline="") as f:
            csv.writer(f).writerows([columns, *rows])
        texts = [[f"{v:,.4g}" if isinstance(v, float) and abs(v) < 1000 else f"{v:,.0f}" if isinstance(v, float) else
                  f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in rows]
        widths = [max(len(row[i]) for row in [columns, *texts]) for i in range(len(columns))]
        print(f"\n{title}\n" if title else "")
        for row in [columns, ["-" * w for w in widths], *texts]:
            print("  ".join(text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths))))
        sys.stdout.flush()

    def goal(self, what, figure, met):
        self.goals.append((self.name, what, figure, bool(met)))


TEXT = 'font-family="sans-serif" font-size="12" fill="#333"'
COLOURS = ["#06c", "#d60", "#293", "#a3a", "#888", "#c33"]


def bars(path, title, groups, unit):
    """A plot of bars, one a row. groups: (name, value, text behind the bar)."""
    most, height = max(value for _, value, _ in groups), 24 * len(groups) + 52
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}">', '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="12" y="22" {TEXT} font-weight="bold">{title}</text>']
    for i, (name, value, text) in enumerate(groups):
        y = 38 + 24 * i
        out.append(f'<text x="230" y="{y + 13}" {TEXT} text-anchor="end">{name}</text>'
                   f'<rect x="238" y="{y}" width="{max(1, 400 * value / most):.1f}" height="17" '
                   f'fill="{COLOURS[0] if name.startswith("headrace") else COLOURS[4]}"/>'
                   f'<text x="{244 + 400 * value / most:.1f}" y="{y + 13}" {TEXT}>{text}</text>')
    out.append(f'<text x="238" y="{height - 4}" {TEXT}>{unit}</text></svg>')
    with open(path, "w") as f:
        f.write("\n".join(out) + "\n")


def lines(path, title, x_name, y_name, series, scale=math.log2):
    """A plot of lines over scale(x): each x is marked, or five if the scale is even. series: name -> [(x, y)]."""
    xs = sorted({x for points in series.values() for x, _ in points})
    top = 1.08 * max(y for points in series.values() for _, y in points)
    low, span = scale(xs[0]), max(1e-9, scale(xs[-1]) - scale(xs[0]))
    marks = xs if scale is math.log2 else [xs[0] + (xs[-1] - xs[0]) * i / 4 for i in range(5)]

    def place(x, y):
        return f"{80 + 560 * (scale(x) - low) / span:.1f},{40 + 240 * (1 - y / top):.1f}"
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 340">', '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="12" y="22" {TEXT} font-weight="bold">{title}</text>',
           '<rect x="80" y="40" width="560" height="240" fill="none" stroke="#bbb"/>']
    for x in marks:
        px = place(x, 0).split(",")[0]
        out.append(f'<text x="{px}" y="298" {TEXT} text-anchor="middle">{x:,.4g}</text>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = top / 1.08 * share
        out.append(f'<text x="74" y="{float(place(xs[0], y).split(",")[1]) + 4:.1f}" {TEXT} text-anchor="end">{y:,.4g}</text>')
    for i, (name, points) in enumerate(series.items()):
        out.append(f'<polyline points="{" ".join(place(x, y) for x, y in points)}" fill="none" stroke="{COLOURS[i]}" '
                   f'stroke-width="2"/><text x="648" y="{54 + 18 * i}" font-family="sans-serif" font-size="12" '
                   f'fill="{COLOURS[i]}">{name}</text>')
    out.append(f'<text x="360" y="320" {TEXT} text-anchor="middle">{x_name}</text>'
               f'<text x="80" y="35" {TEXT}>{y_name}</text></svg>')
    with open(path, "w") as f:
        f.write("\n".join(out) + "\n")
