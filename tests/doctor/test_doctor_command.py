"""`mlstack doctor` on the machine that runs the tests."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from fake_gpus import lease, with_driver

from mlstack.config import load
from mlstack.doctor import machine, place, software, together
from mlstack.doctor.seen import TorchSeen
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


def test_gpus_that_do_not_compute_are_not_tried_together() -> None:
    checks = list(together.gpus(2, each_works=False))

    assert [check.status for check in checks] == ["ok", "ok"]
    assert all("torch does not compute on each GPU" in check.detail for check in checks)


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


def test_a_folder_of_somebody_else_is_named_with_what_git_needs(tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("only root can give a folder away")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    os.chown(tmp_path, 12345, 12345)
    os.chown(tmp_path / ".git", 12345, 12345)

    check = place.git_state(tmp_path, is_project=True)

    assert check.status == "fail"
    assert f"`{tmp_path}` belongs to somebody else" in check.detail
    assert check.fix == f"type `git config --global --add safe.directory {tmp_path}`"


@pytest.mark.slow
def test_a_project_that_is_not_there_leaves_the_machine_to_be_checked(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--config", str(tmp_path / "no" / "mlstack.yaml"))

    assert "bug" not in done.stderr
    assert f"free at {tmp_path}" in done.stdout


@pytest.mark.parametrize(
    ("setting", "count", "status", "words"),
    [
        (None, 2, "ok", "2 found"),
        ("0,1", 2, "ok", "2 found"),
        ("1", 1, "ok", "CUDA_VISIBLE_DEVICES=1 leaves 1 to be used"),
        ("", 0, "warning", "leaves none to be used"),
        ("7", 0, "warning", "leaves none to be used"),
    ],
)
def test_gpus_that_are_hidden_on_purpose_are_not_missed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str | None,
    count: int,
    status: str,
    words: str,
) -> None:
    monkeypatch.setenv("PATH", with_driver(tmp_path, "A", "B")["PATH"])
    if setting is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", setting)

    check, left = machine.gpus()

    assert (left, check.status) == (count, status)
    assert words in check.detail
    assert (check.fix == "") == (status == "ok")


@pytest.mark.parametrize(
    ("host", "status", "fix"),
    [
        ("::1", "ok", ""),
        ("192.0.2.1", "warning", "serve.host"),  # of the examples in books: nobody's
        ("a..b", "warning", "serve.host"),
    ],
)
def test_an_address_to_listen_on_is_tried_as_what_it_is(host: str, status: str, fix: str) -> None:
    check = machine.port(host, 0)

    assert check.status == status, check
    assert fix in check.fix


def test_a_disk_that_takes_no_more_files_is_told_from_one_that_is_full(tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("only root can mount a disk")
    look = (
        "from pathlib import Path; from mlstack.doctor import machine\n"
        "for check in machine.disk(Path('.')): print(check.name, check.status, check.fix, sep='|')"
    )
    mount = f"mount -t tmpfs -o size=2g,nr_inodes=1 none '{tmp_path}' && cd '{tmp_path}'"
    script = f'{mount} && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-c", look]

    done = subprocess.run(words, capture_output=True, text=True, check=True)

    told = {line.split("|")[0]: line for line in done.stdout.splitlines()}
    assert "`df -i`" in told["disk files"]
    assert told["disk speed"].startswith("disk speed|fail|")
    assert "permissions" not in told["disk speed"]


def test_a_machine_without_a_place_for_temporary_files_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)  # what was found is kept there
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "no")])

    nowhere = machine.temporary()
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path)])
    somewhere = machine.temporary()

    assert (nowhere.status, "TMPDIR" in nowhere.fix) == ("fail", True)
    assert somewhere.status == "ok"
    assert somewhere.detail.endswith(f"GiB free at {tmp_path}")


def test_data_that_cannot_be_read_is_named(project: Path) -> None:
    gone = project / "data" / "digits" / "gone.png"
    gone.symlink_to("/nowhere")

    (check, *_) = place.data_state(load(project / "mlstack.yaml"))

    assert check.status == "fail"
    assert str(gone) in check.detail


@pytest.mark.parametrize("is_there", [False, True])
def test_data_that_is_not_checked_out_is_not_told_to_be_snapshotted(
    project: Path, *, is_there: bool
) -> None:
    shutil.rmtree(project / "data" / "digits")
    if is_there:
        (project / "data" / "digits").mkdir()

    (check, *_) = place.data_state(load(project / "mlstack.yaml"))

    assert check.status == "warning"
    assert check.fix in ("mlstack version checkout HEAD", "mlstack version pull")


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "onnxruntime"])
def test_a_library_that_hangs_is_the_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    (tmp_path / f"{library}.py").write_text("import time; time.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(software, "LIMIT_S", 3)

    (check, *_) = getattr(software, library)(0)

    assert check.status == "fail"
    assert f"{library} does not answer within 3 s" in check.detail
    assert check.fix


def test_a_gpu_that_is_full_is_not_mended_by_an_installation() -> None:
    full = TorchSeen(version="2", cuda="13", problem="GPU 0: A: CUDA out of memory")
    old = TorchSeen(version="2", cuda="13", problem="GPU 0: A: no kernel image is available")

    assert "nvidia-smi" in software.way_to_compute(full)
    assert "driver" in software.way_to_compute(old)


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
