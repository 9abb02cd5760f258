"""One task a row with Celery over Redis, acknowledged late, results in Redis; one worker, 64 threads,
with keep-alive: celery_run.py SOCKET URL ROWS. Prints the seconds and the number of answers."""
import http.client
import json
import os
import subprocess
import sys
import threading
import time
import urllib.parse

import celery

SYSTEM = "You are a sentiment analyzer. Always respond with valid JSON."
ASK = 'Analyze sentiment. Return JSON: {"sentiment": "<positive|negative|neutral>"}\n\n'
socket = sys.argv[1] if __name__ == "__main__" else os.environ["PEER_SOCKET"]
app = celery.Celery("celery_run", broker=f"redis+socket://{socket}", backend=f"redis+socket://{socket}")
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=32, task_ignore_result=False)
local = threading.local()


@app.task(name="ask")
def ask(url, row):
    at = urllib.parse.urlparse(url)
    if not hasattr(local, "connection"):
        local.connection = http.client.HTTPConnection(at.netloc, timeout=30)
    body = {"model": "gpt-5.4-mini", "messages": [{"role": "system", "content": SYSTEM},
                                                  {"role": "user", "content": ASK + row["text"]}]}
    local.connection.request("POST", at.path, json.dumps(body), {"Authorization": "Bearer k", "Content-Type": "application/json"})
    answer = json.loads(local.connection.getresponse().read())
    return {**row, "answer": answer["choices"][0]["message"]["content"]}


def main():
    url, path = sys.argv[2:4]
    env = {**os.environ, "PEER_SOCKET": socket, "PYTHONPATH": os.path.dirname(os.path.abspath(__file__))}
    worker = subprocess.Popen([sys.executable, "-m", "celery", "-A", "celery_run", "worker", "--pool=threads", "--concurrency=64",
                               "--loglevel=ERROR"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not app.control.ping(timeout=0.5):
            if time.monotonic() > deadline:
                sys.exit("no worker")
        with open(path) as f:
            rows = [json.loads(line) for line in f]
        begin = time.monotonic()
        tasks = [ask.delay(url, row) for row in rows]
        answers = [task.get(timeout=120) for task in tasks]
        with open("celery-out.jsonl", "w") as f:
            f.writelines(json.dumps(row) + "\n" for row in answers)
        print(time.monotonic() - begin, len(answers))
    finally:
        worker.terminate()
        worker.wait()


if __name__ == "__main__":
    main()
