"""A real MLflow tracking server on loopback: its own Flask app over SQLite, one process."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

APP = """
import sys
from mlflow.server import app
from werkzeug.serving import run_simple
run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True)
"""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Give the address of a server with an empty store; it ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/mlflow.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(folder / "artifacts"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", APP, str(port)], env=os.environ | store, stdout=log, stderr=log
        )
    try:
        yield _ready(f"http://127.0.0.1:{port}", process)
    finally:
        process.kill()
        process.wait()


def _ready(address: str, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + 90  # it makes its tables first
    while True:
        try:
            httpx.post(
                f"{address}/api/2.0/mlflow/experiments/search", json={"max_results": 1}, timeout=60
            ).raise_for_status()
        except httpx.TransportError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        else:
            return address
