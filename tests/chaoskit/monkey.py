"""Random faults over everything: one seed decides which, to whom, when and for how long."""
import heapq
import random
import subprocess
import time

# The cluster of the random run: every fault of the provider at a low rate.
MIX = dict(workers=4, producers=2, latency=30, die_rate=0.001, lost_ms=3000, timeout_ms=8000,
           faults=("malformed=0.2%", "missing=0.3%", "duplicate=0.2%", "shifted=0.2%", "out-of-range=0.2%",
                   "fenced=0.3%", "prose=0.3%", "truncated=0.2%", "length=0.2%", "empty=0.2%", "500=0.3%",
                   "503=0.2%", "429=0.1%", "429-no-delay=0.1%", "hang=0.1%", "reset=0.3%", "cut=0.3%"))
MEAN_S = 0.9  # between two faults


class Monkey:
    def __init__(self, seed, seconds):
        self.chance, self.seconds = random.Random(seed), seconds
        self.later = []       # (time, number, what undoes a fault)
        self.number = 0
        self.busy = set()     # who is in a fault already

    def after(self, seconds, undo):
        self.number += 1
        heapq.heappush(self.later, (time.monotonic() + seconds, self.number, undo))

    def run(self, cluster):
        self.cluster = cluster
        end, next_fault = time.monotonic() + self.seconds, time.monotonic() + 1
        while time.monotonic() < end:
            cluster.keep_alive()
            now = time.monotonic()
            while self.later and self.later[0][0] <= now:
                heapq.heappop(self.later)[2]()
            if now >= next_fault:
                self.do_one()
                next_fault = time.monotonic() + self.chance.expovariate(1 / MEAN_S)
            wake = min(next_fault, end, now + 0.2, *[entry[0] for entry in self.later[:1]])
            time.sleep(max(0, wake - time.monotonic()))  # until something is due
        while self.later:
            heapq.heappop(self.later)[2]()

    def do_one(self):
        kinds = [(30, self.kill_worker), (8, self.kill_producer), (8, self.kill_consumer), (8, self.kill_coordinator),
                 (8, self.kill_redis), (8, self.stop_somebody), (3, self.slow_redis), (2, self.flush_scripts),
                 (24, self.break_link)]
        self.chance.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])[0]()

    def take(self, who, seconds, undo):
        """Marks who as in a fault until undo was done."""
        self.busy.add(who)

        def done():
            self.busy.discard(who)
            undo()
        self.after(seconds, done)

    def kill(self, name, most_s=1.0):
        part = self.cluster.parts[name]
        if name in self.busy or not part.is_running():
            return
        part.kill()
        self.take(name, self.chance.uniform(0, most_s), part.start)

    def kill_worker(self):
        self.kill(self.chance.choice(self.cluster.workers))

    def kill_producer(self):
        self.kill(self.chance.choice(self.cluster.producers))

    def kill_consumer(self):
        self.kill("consumer")

    def kill_coordinator(self):
        self.kill("coordinator", 0.5)

    def kill_redis(self):
        if "redis" in self.busy:
            return
        power = self.chance.random() < 0.5 and self.cluster.has_power_cut
        part = self.cluster.parts["redis"]
        if power:
            self.cluster.cut_power()
        else:
            part.kill()
        self.take("redis", self.chance.uniform(0, 1), part.start)

    def stop_somebody(self):
        name = self.chance.choice([*self.cluster.workers, "coordinator", "redis", "consumer",
                                   *self.cluster.producers])
        part = self.cluster.parts[name]
        most = 10 if name in self.cluster.workers else 4
        if name not in self.busy and part.is_running():
            part.stop()
            self.take(name, self.chance.uniform(1, most), part.go_on)

    def slow_redis(self):
        if "redis" in self.busy:
            return
        seconds = self.chance.uniform(0.5, 3)
        self.cluster.note("pause", "redis")
        words = self.chance.choice([("CLIENT", "PAUSE", int(seconds * 1000), "ALL"), ("DEBUG", "SLEEP", seconds)])
        command = subprocess.Popen(["redis-cli", "-p", str(self.cluster.redis_port), *map(str, words)],
                                   stdout=subprocess.DEVNULL, env=self.cluster.env)

        def over():
            command.wait(10)
            self.cluster.note("over", "redis")
        self.take("redis", seconds + 0.2, over)

    def flush_scripts(self):
        if "redis" not in self.busy:
            self.cluster.note("flush", "redis")
            self.cluster.redis("SCRIPT", "FLUSH")

    def break_link(self):
        link = self.chance.choice([*self.cluster.workers, *self.cluster.workers, *self.cluster.producers,
                                   "consumer", "provider", "redis"])
        if "link " + link in self.busy:
            return
        fault = self.chance.choice([
            ("reset",), ("cut", self.chance.randrange(1, 20000)), ("half",), ("refuse",),
            ("hole", self.chance.choice(["up", "down", "both"])), ("delay", self.chance.randrange(5, 200)),
            ("bandwidth", self.chance.randrange(20000, 500000))])
        self.cluster.fault(link, *fault)
        if fault[0] == "refuse":
            self.cluster.fault(link, "reset")
        seconds = 0.2 if fault[0] == "reset" else self.chance.uniform(0.5, 5)
        self.take("link " + link, seconds, lambda: self.cluster.heal(link))
