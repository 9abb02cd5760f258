"""Shared fixtures: where the programs are; start one and stop it by its own process id."""
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def bin_dir():
    return pathlib.Path(os.environ.get("HEADRACE_BIN", ROOT / "build" / "bin"))


class Provider:
    def __init__(self, process, port, ledger):
        self.process, self.port, self.ledger = process, port, ledger
        self.url = f"http://127.0.0.1:{port}/v1/chat/completions"

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=20)
        self.process.stdout.close()


@pytest.fixture
def provider(bin_dir, tmp_path):
    """provider(*args) starts a simulator on a free port, with a ledger in the test's folder."""
    running = []

    def start(*args):
        ledger = tmp_path / f"ledger{len(running)}.jsonl"
        process = subprocess.Popen(
            [bin_dir / "headrace-provider", "--bind", "127.0.0.1:0", "--ledger", ledger, *args],
            stdout=subprocess.PIPE, text=True)
        line = process.stdout.readline()
        assert "listening on http://" in line, line
        running.append(Provider(process, int(line.rsplit(":", 1)[1]), ledger))
        return running[-1]

    yield start
    for one in running:
        one.stop()
