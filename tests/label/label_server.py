"""The labeling server and commands as a user starts them."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from mlstack.records import dataset

LABELED = 20
IMAGES = 300


@dataclass
class Server:
    """A running `mlstack label`."""

    process: "subprocess.Popen[str]"
    url: str
    client: httpx.Client = field(default_factory=httpx.Client)
    out: str = ""
    err: str = ""

    def get(self, address: str, /, **params: Any) -> httpx.Response:
        return self.client.get(self.url.rstrip("/") + address, params=params or None)

    def post(self, address: str, /, **body: Any) -> httpx.Response:
        return self.client.post(self.url.rstrip("/") + address, json=body)

    def label(self, path: str, label: str, annotator: str = "ann", **more: Any) -> dict[str, Any]:
        answer = self.post("/api/label", path=path, label=label, annotator=annotator, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def worker(self) -> psutil.Process:
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def stop(self, number: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.client.close()
        self.out, self.err = self.process.communicate(timeout=20)
        return self.process.returncode


def run(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Type a command."""
    return subprocess.run(
        [sys.executable, "-m", "mlstack", *arguments], cwd=project, capture_output=True, text=True
    )


def answer(project: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Type a command with --json and give what it answered."""
    done = run(project, *arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def start(project: Path, *arguments: str) -> Server:
    """Start the server on a free port and wait until it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlstack", "label", "--port", "0", "--no-browser", *arguments],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    if not line.startswith("labeling at "):
        rest = process.communicate(timeout=20)
        raise AssertionError(line + "".join(rest))
    return Server(process, line.split()[-1])


def labels_of(project: Path) -> dict[str, str]:
    """Read labels.parquet."""
    table = dataset.read_labels(project / "data" / "digits" / dataset.LABELS)
    return dict(zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True))
