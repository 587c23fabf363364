"""`mlstack doctor` on the machine that runs the tests."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from fake_gpus import lease

from mlstack.doctor import machine, place, software, together
from mlstack.launch.gpus import FakeGpus
from mlstack.launch.leases import claim

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
        (project / ".mlstack" / "decoded" / "8x8x1-1").mkdir(parents=True)
        (project / ".mlstack" / "decoded" / "8x8x1-1" / "pixels").write_bytes(bytes(3 << 20))

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
    assert checks["versions"]["status"] == "ok", checks["versions"]
    assert checks["gpu leases"]["status"] == "ok"
    assert checks["kept inputs"]["detail"].startswith("3 MiB of decoded images;")
    assert "two GPUs" in checks["all-reduce"]["detail"] or "agree" in checks["all-reduce"]["detail"]
    assert "not tried: " in checks["loader"]["detail"]  # the data is not snapshotted
    assert not [c for c in body["checks"] if c["status"] != "ok" and not c["fix"]]


def test_git_is_asked_for_in_a_project_only(tmp_path: Path) -> None:
    elsewhere = place.git_state(tmp_path, is_project=False)
    inside = place.git_state(tmp_path, is_project=True)

    assert (elsewhere.status, elsewhere.fix) == ("ok", "")
    assert (inside.status, inside.fix) == ("warning", "git init")


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


@pytest.mark.slow
def test_processes_agree_on_a_known_sum() -> None:
    check = together.all_reduce(2, "gloo")

    assert check.status == "ok", check
    assert "2 processes agree" in check.detail


@pytest.mark.slow
def test_a_process_that_does_not_answer_is_named_within_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\nif os.environ.get('RANK') == '1': time.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")

    check = together.all_reduce(2, "gloo", limit_s=8)

    assert check.status == "fail"
    assert "does not answer within 8 s" in check.detail
    assert check.fix


def test_a_package_that_another_one_does_not_fit_is_named_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, asks in (("mlstack", "torch"), ("torch", "sympy<1")):
        info = tmp_path / f"{name}-9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 9\nRequires-Dist: {asks}\n")
    monkeypatch.syspath_prepend(tmp_path)

    check = software.versions()

    assert check.status == "warning"
    assert check.detail.startswith("torch wants sympy<1, not ")
    assert check.fix == "pip install 'sympy<1'"


def test_who_holds_a_gpu_and_who_waits_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    gpu = FakeGpus("A")

    with lease(1, "run a", machine=gpu), claim(1, "run b", machine=gpu) as waits:
        next(waits.wait(0))
        check = machine.leases()

    assert f"run a (process {os.getpid()}) holds GPU-0 for 0 h 00 min" in check.detail
    assert "1. in the queue is run b" in check.detail
