"""What must hold after all faults, from the producers' logs, the ledger, Redis and the consumer's logs.

lost        a record that was sent to the end and is not in the consumer's log
doubled     a record that is there twice, behind the filter by result number
gaps        a result number that was left out
wrong       another record's answer, or an error (no fault here may cost a value)
unaccounted calls of the ledger that were neither answered nor counted as ambiguous, and the like: see account
miscounted  the coordinator's counters of ambiguous calls against its log
paid again  a paid answer of the ledger that was followed by another paid answer for the same record,
            though it could have been taken: see Excuses
"""
import bisect
import json
import subprocess
from collections import Counter

from account import account
from peers import text_of

REACH_MS = 2500   # an answer that had this long without any trouble has been taken
SETTLE_MS = 4000  # trouble lasts this much longer: reconnecting (1 s or so), silence noticed (3 heartbeats), grace


# What is wrong from one event to another: the process, the link, or Redis that answers late.
BEGINS = {"kill": "process", "stop": "process", "fault": "link", "pause": "pause"}
ENDS = {"start": "process", "go-on": "process", "heal": "link", "over": "pause"}


class Excuses:
    """Why an answer that was paid may not have been taken. The times of trouble come from the events:

    - the answer was not delivered whole, or the provider's link was broken in its time;
    - the worker that had it was killed before it could hand it over;
    - from the answer's end to the next call for the record there was no stretch of REACH_MS in which
      worker, coordinator, Redis and all between them worked.
    """

    def __init__(self, events, key_hashes, end_ms):
        self.owner = key_hashes                        # key hash → (worker, life)
        self.killed = {}                               # (worker, life) → ms
        self.provider, self.everybody, self.by_worker = [], [], {}
        opened = {}
        for event in events:
            ms, what, name = event["ms"], event["what"], event["name"]
            if what == "kill" and name.startswith("worker"):
                self.killed[name, event["life"]] = ms
            if what in BEGINS:
                opened.setdefault((name, BEGINS[what]), ms)
            for key in [key for key in opened if key[0] == name or name == "*"]:
                if ENDS.get(what) == key[1]:
                    self.add(key[0], opened.pop(key), ms)
        for (name, _), ms in opened.items():
            self.add(name, ms, end_ms)
        self.clear = {}

    def add(self, name, start, end):
        if name == "provider":
            self.provider.append((start - 200, end + 1000))  # what was on its way is gone too
        elif name in ("redis", "coordinator", "proxy"):
            self.everybody.append((start, end + SETTLE_MS))
        elif name.startswith("worker"):
            self.by_worker.setdefault(name, []).append((start, end + SETTLE_MS))

    def trouble_of(self, worker):
        """All times of trouble for a worker, joined and in order."""
        if worker not in self.clear:
            joined = []
            for start, end in sorted(self.everybody + self.by_worker.get(worker, [])):
                if joined and start <= joined[-1][1]:
                    joined[-1][1] = max(joined[-1][1], end)
                else:
                    joined.append([start, end])
            self.clear[worker] = joined
        return self.clear[worker]

    def had_time(self, worker, start, end):
        """Whether there was a stretch of REACH_MS without trouble from start to end."""
        spans = self.trouble_of(worker)
        at = start
        for span in spans[max(0, bisect.bisect_left(spans, [start, 0]) - 1):]:
            if span[1] < at:
                continue
            if span[0] >= end:
                break
            if span[0] - at >= REACH_MS:
                return True
            at = max(at, span[1])
        return end - at >= REACH_MS

    def is_touched(self, worker, start, end):
        return any(a <= end and b >= start for a, b in self.trouble_of(worker))

    def find(self, call, next_ms):
        """The cause that excuses a paid call whose record was paid again at next_ms; None: there is none."""
        start, end = call["ms"], call["ms"] + call["took"]
        if not call["complete"]:
            return "cut"
        if any(a <= end and b >= start for a, b in self.provider):
            return "provider's link"
        worker, life = self.owner.get(call["key"], ("?", 0))
        killed = self.killed.get((worker, life), float("inf"))
        until = min(next_ms, killed)
        if self.had_time(worker, end, until):
            return None
        if killed <= next_ms and killed >= start:
            return "worker killed"
        return "out of reach" if self.is_touched(worker, start, next_ms) else None


def read_ledger(path):
    """Requests as dicts, in the order of their end; records, those that were answered, are numbers."""
    with open(path, "rb") as lines:
        for line in lines:
            row = json.loads(line)
            at = dict(zip(row["indices"], row["records"]))
            yield {"ms": row["unix_ms"], "took": row["took_ms"], "key": row["key"], "complete": row["complete"],
                   "name": row["client_id"], "status": row["status"], "fault": row["fault"],
                   "records": [int(at[index], 16) for index in row["answered"]]}


def hashes(cluster, texts):
    done = subprocess.run([str(cluster.bin / "headrace-provider"), "--hash", "-"], input="\n".join(texts) + "\n",
                          text=True, capture_output=True, check=True, env=cluster.env)
    return done.stdout.split()


def check_results(cluster, told, verdict):
    """Every record once, in order, with its own answer."""
    want = {}
    for name, n in told.items():
        want[name] = hashes(cluster, [text_of(cluster.seed, name, seq) for seq in range(1, n + 1)]) if n else []
    seen = {name: bytearray(n + 1) for name, n in told.items()}
    last = {}
    for path in cluster.used_files():
        for line in path.read_bytes().split(b"\n")[:-1]:
            words = line.decode().split(" ")
            if words[0] == "d":
                verdict["redelivered"] += 1
            if words[0] != "=":
                continue
            partition, oseq, producer, seq, code, tag = words[1:7]
            if int(oseq) != last.get(partition, 0) + 1:
                verdict["gaps"] += 1
            last[partition] = int(oseq)
            seq = int(seq)
            if seq > told[producer]:
                verdict["wrong"] += 1
                continue
            verdict["doubled"] += seen[producer][seq]
            seen[producer][seq] = 1
            if code != "-" or tag != "h:" + want[producer][seq - 1]:
                verdict["wrong"] += 1
                verdict["examples"].append(line.decode())
    poisoned = [(name, seq) for name, seq in cluster.poison if seq <= told.get(name, 0)]
    for name, seq in poisoned:
        verdict["wrong"] += seen[name][seq]
        seen[name][seq] = 1
    verdict["records"] = sum(told.values())
    verdict["lost"] = sum(n - sum(seen[name]) for name, n in told.items())
    verdict["undead"] = abs(verdict["dead"] - len(poisoned))
    return want


def check_bill(cluster, verdict):
    """Every second payment has its excuse."""
    lives = [(name, life) for name in cluster.workers for life in range(cluster.parts[name].lives)]
    keys = dict(zip(hashes(cluster, [cluster.key(*life) for life in lives]), lives))
    calls, bought, again = [], {}, {}
    rows = list(read_ledger(cluster.ledger))
    account(cluster, rows, verdict)
    for call in rows:
        verdict["calls"] += 1
        if not call["records"]:
            continue
        verdict["paid_calls"] += 1
        number = len(calls)
        for record in call.pop("records"):
            if record in bought:
                again.setdefault(record, [bought[record]]).append(number)
            else:
                bought[record] = number
        calls.append(call)
    excuses = Excuses(cluster.events, keys, max((call["ms"] for call in calls), default=0) + 1e6)
    pairs = Counter()
    for numbers in again.values():
        numbers.sort(key=lambda n: calls[n]["ms"])
        pairs.update(zip(numbers, numbers[1:]))
    causes = {}
    for (first, second), n in pairs.items():
        cause = excuses.find(calls[first], calls[second]["ms"])
        if cause is None:
            verdict["paid_again"] += n
            verdict["examples"].append(f"paid again: {calls[first]} then {calls[second]}")
        else:
            causes.setdefault(cause, set()).add(first)
    verdict["bought_twice"] = sum(len(numbers) - 1 for numbers in again.values())
    verdict["extra_calls"] = len({first for first, _ in pairs})
    verdict["causes"] = {cause: len(firsts) for cause, firsts in sorted(causes.items())}


def check_redis(cluster, told, verdict):
    """Nothing is left in Redis, and it knows what was accepted."""
    for p in range(cluster.partitions):
        if int(cluster.redis("HLEN", f"hr:{{chaos:{p}}}:bat")) != 0:
            verdict["left_in_redis"] += 1
        verdict["dead"] += int(cluster.redis("XLEN", f"hr:{{chaos:{p}}}:dlq"))


def check(cluster):
    """The verdict, as a dict; verdict["ok"] says whether all holds. The cluster still runs."""
    told = cluster.told()
    verdict = {**{name: 0 for name in (
        "records", "lost", "doubled", "gaps", "wrong", "redelivered", "calls", "paid_calls", "bought_twice",
        "extra_calls", "paid_again", "dead", "undead", "left_in_redis",
        "miscounted", "unaccounted")}, "causes": {}, "examples": []}
    check_redis(cluster, told, verdict)
    check_results(cluster, told, verdict)
    check_bill(cluster, verdict)
    verdict["faults_found"] = cluster.faults_found
    bad = ("lost", "doubled", "gaps", "wrong", "paid_again", "undead", "left_in_redis", "miscounted",
           "unaccounted")
    verdict["ok"] = not any(verdict[name] for name in bad) and not cluster.faults_found
    return verdict
