"""`mlstack doctor` on the machine that runs the tests."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

PROBE = """
import sys
from mlstack.doctor.worker.onnx import doubling_graph
sys.stdout.buffer.write(doubling_graph())
"""


def doctor(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlstack", "doctor", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_project_on_this_machine_is_examined(project: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (project / "data" / "digits" / "new.txt").write_text("not in the last version")

        done = doctor(project, "--json", "--set", f"serve.port={port}")

    body = json.loads(done.stdout)
    checks = {check["name"]: check for check in body["checks"]}
    assert done.returncode == (0 if body["ok"] else 6)
    assert checks["python"]["status"] == "ok"
    assert checks["onnxruntime"]["status"] == "ok", checks["onnxruntime"]
    assert "computes on the CPU" in checks["onnxruntime"]["detail"]
    assert checks["torch"]["status"] in ("ok", "warning"), checks["torch"]
    assert checks[f"port {port}"]["status"] == "warning"
    assert "serve.port=0" in checks[f"port {port}"]["fix"]
    assert checks["data"]["status"] == "warning"
    assert "mlstack version snapshot" in checks["data"]["fix"]
    assert checks["config"]["status"] == "ok"
    assert not [c for c in body["checks"] if c["status"] != "ok" and not c["fix"]]


@pytest.mark.slow
def test_a_required_check_that_fails_is_exit_6(tmp_path: Path) -> None:
    (tmp_path / "mlstack.yaml").write_text("version: 1\n")

    done = doctor(tmp_path)

    assert done.returncode == 6
    assert "FAIL  config" in done.stdout
    assert "fix: mlstack config show" in done.stdout


def test_the_hand_written_graph_is_onnx_and_doubles() -> None:
    graph = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, check=True).stdout

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": np.array([1.5], dtype=np.float32)})

    assert answer.tolist() == [3.0]
