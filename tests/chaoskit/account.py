"""Every request in the ledger against what the coordinator has counted, call by call.

A call has one name everywhere, batch and number: the ledger has it as the client's request id, the coordinator's
log (level debug) in its lines call.report, call.ambiguous and call.resolved. Each call is put into one class:

undelivered        in the ledger, no answer of it came, counted: as it must be
not begun          counted and not in the ledger: its worker was killed or cut off after the coordinator had sent it,
                   before its first byte; nobody can know that it was not made
perhaps not sent   counted and not in the ledger: a coordinator was killed after it had noted that the call goes out
lost on the way    counted and not in the ledger: the link to the provider broke under the request
answered too late  its answer went down with the coordinator that took it, and with its worker, which would have said
                   it again: counted, though there was an answer
counted again      a coordinator was killed before it was durable that it had taken a call back, or had counted it, and
                   the next one did not hear of it, or counted it: the counter is above the calls by so much
missed             in the ledger, no answer of it came, and not counted: must be none
unexplained        counted without any of these causes: must be none
sent twice         one name in two requests: must be none
billed as unsent   reported as never sent, and in the ledger: must be none
"""
import re
from collections import Counter
from datetime import datetime

LINE = re.compile(rb"^(\S+) .*? call\.(report|ambiguous|resolved) batch=([0-9a-f]{16}) call=(\d+)(?: (.*))?$")
NEAR_MS = 3000  # what a coordinator logged so shortly before its end may not be in Redis
MUST_BE_NONE = ("missed", "unexplained", "sent twice", "billed as unsent")


class Told:
    """What the coordinator's log says of each call, over all its lives."""

    def __init__(self, path, kills):
        self.cause, self.answered, self.unsent = {}, {}, set()
        self.again = 0       # how often a coordinator may have counted what one before it had
        self.kills = kills   # of coordinators, ms
        with open(path, "rb") as lines:
            for line in lines:
                match = LINE.match(line) if b" call." in line else None
                if match:
                    name = f"{match[3].decode()}-{match[4].decode()}"
                    words = dict(word.split("=", 1) for word in (match[5] or b"").decode().split(" ") if "=" in word)
                    at_ms = datetime.fromisoformat(match[1].decode()).timestamp() * 1000
                    getattr(self, match[2].decode())(at_ms, name, words)

    def report(self, at_ms, name, words):
        if words["sent"] == "no":
            self.unsent.add(name)
        elif words["answered"] == "yes":
            self.answered.setdefault(name, at_ms)

    def ambiguous(self, at_ms, name, words):
        self.again += name in self.cause and any(kill <= at_ms for kill in self.kills)
        self.cause[name] = words["cause"]

    def resolved(self, at_ms, name, words):
        self.cause.pop(name, None)
        self.again += any(0 <= kill - at_ms <= NEAR_MS for kill in self.kills)


def explain(cluster, told, name, requests):
    """The class of a call that is counted as ambiguous."""
    cause = told.cause[name]
    if name in requests and name not in told.answered:
        return "undelivered"
    if name in told.answered:
        return "answered too late" if cluster.parts["coordinator"].kills > 0 else "unexplained"
    kind, *whose = {"worker_lost": ("not begun", "worker", "coordinator"),
                    "coordinator_crash": ("perhaps not sent", "coordinator")}.get(cause, ("lost on the way", "provider"))
    touched = {event["name"].split("-")[0] for event in cluster.events
               if event["what"] in ("kill", "stop", "fault", "pause")}
    return kind if touched & {*whose, "*"} else "unexplained"


def account(cluster, rows, verdict):
    """rows: the ledger's requests, with their names."""
    kills = [event["ms"] for event in cluster.events if (event["what"], event["name"]) == ("kill", "coordinator")]
    told = Told(cluster.parts["coordinator"].log, kills)
    requests, classes, causes = {}, Counter({name: 0 for name in MUST_BE_NONE}), Counter()
    for row in rows:
        if row["name"] in requests:
            classes["sent twice"] += 1
            verdict["examples"].append(f"sent twice: {row} and {requests[row['name']]}")
        requests[row["name"]] = row
    for name in told.cause:
        kind = explain(cluster, told, name, requests)
        classes[kind] += 1
        causes[told.cause[name]] += 1
        if kind == "unexplained":
            verdict["examples"].append(f"ambiguous without a reason: {name} {told.cause[name]} {requests.get(name)}")
    for name, row in requests.items():
        if name in told.unsent and name not in told.answered:
            classes["billed as unsent"] += 1
            verdict["examples"].append(f"billed as unsent: {row}")
        elif name not in told.answered and name not in told.cause:
            classes["missed"] += 1
            verdict["examples"].append(f"not counted: {row}")
    verdict["ambiguous_causes"] = dict(causes)
    verdict["ambiguous_calls"] = len(told.cause)
    verdict["undelivered"] = sum(name not in told.answered for name in requests)
    verdict["ambiguous"] = cluster.ambiguous()
    more = verdict["ambiguous"] - len(told.cause)
    classes["counted again"] = more if 0 <= more <= told.again else 0
    verdict["miscounted"] = more - classes["counted again"]
    verdict["classes"] = dict(classes)
    verdict["unaccounted"] = sum(classes[name] for name in MUST_BE_NONE)
