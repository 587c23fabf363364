"""Commands as a user types them, and the means to spoil them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def mlstack(
    folder: Path, *words: str, env: Mapping[str, str] | None = None, **how: Any
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "mlstack", *words],
        cwd=folder,
        env={**os.environ, **(env or {})},
        text=True,
        check=False,
        **({"capture_output": True} | how),
    )


def failure(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    """Read the one JSON object of a command that failed."""
    assert "Traceback" not in done.stderr + done.stdout
    body = json.loads(done.stdout)
    assert body["ok"] is False
    assert body["error"]["code"] == done.returncode
    return body["error"]


def send(folder: Path, number: signal.Signals, after_s: float, *words: str) -> tuple[int, str]:
    """Send a signal to a command after a while; give its exit code and stdout."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlstack", *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    time.sleep(after_s)
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


def kill(folder: Path, after_s: float, *words: str) -> None:
    """Kill a command with SIGKILL after a while, if it is not done by then."""
    send(folder, signal.SIGKILL, after_s, *words)
