"""The whole way with real ranks: each run costs some seconds, so one run keeps several promises."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import psutil
import pytest

from mlstack.records.base import read
from mlstack.records.layout import Layout
from mlstack.records.run import SPEC, RunSpec, Stopped, find_run, read_events, run_ids

pytestmark = pytest.mark.slow


def mlstack(project, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "mlstack", "train", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )


def begin(project, *arguments, mark="epoch   3/"):
    """Start a long training; come back when its third epoch is over."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlstack", "train", "--epochs", "500", *arguments],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith(mark):
            return process
    raise AssertionError("it ended early")


def newest(project):
    return Layout(project).run(run_ids(Layout(project).runs)[-1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, project_maker):
    project = project_maker(tmp_path_factory.mktemp("train") / "demo", images=400)
    return project, mlstack(project, "--epochs", "3", "--json")


def test_a_training_ends_with_one_json_object_and_a_best_checkpoint(trained):
    project, done = trained

    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ok"]
    assert result["epochs"] == 3
    assert "test/acc" in result["metrics"]
    assert (project / result["checkpoint"]).is_file()
    assert done.stderr == ""


def test_the_run_can_be_traced_to_data_code_and_settings(trained):
    project, done = trained

    spec = read(Layout(project).run(json.loads(done.stdout)["run"]) / SPEC, RunSpec)
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=project, text=True).strip()
    assert spec.dataset.revision == head
    assert spec.code.commit == head
    assert spec.config["train"]["epochs"] == 3
    assert spec.command == ["mlstack", "train", "--epochs", "3", "--json"]


def test_export_finds_the_run_as_the_newest_finished_one(trained):
    project, done = trained

    assert find_run(Layout(project).runs, None) == json.loads(done.stdout)["run"]


def test_from_run_repeats_a_run_with_other_settings_in_one_line_per_epoch(trained):
    project, done = trained
    parent = json.loads(done.stdout)["run"]

    again = mlstack(project, "--from-run", parent, "--set", "model.args.lr=0.01", "--ranks", "2")

    assert again.returncode == 0, again.stderr
    lines = [line for line in again.stderr.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    assert "2 ranks" in again.stderr
    spec = read(newest(project) / SPEC, RunSpec)
    assert spec.parent == parent
    assert spec.ranks == 2
    assert spec.config["model"]["args"]["lr"] == 0.01


def test_a_check_that_passes_leaves_no_run(project):
    done = mlstack(project, "--check")

    assert done.returncode == 0, done.stderr
    assert "checks passed" in done.stdout
    assert not list(Layout(project).runs.iterdir())


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_check_that_is_stopped_leaves_nothing_at_all(project, number, code):
    process = begin(project, "--check", "--ranks", "2", mark="ok     data loads")
    ranks = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(number)
    _, said = process.communicate(timeout=60)

    assert process.returncode == code
    assert "the check was stopped" in said
    assert "--resume" not in said  # there is nothing to go on with
    assert ranks
    assert not psutil.wait_procs(ranks, timeout=10)[1]
    assert not list(Layout(project).runs.iterdir())


def test_a_check_that_was_killed_is_gone_after_the_next_one(project):
    process = begin(project, "--check", mark="ok     data loads")
    process.kill()
    process.communicate(timeout=60)
    (left,) = Layout(project).runs.iterdir()
    long_ago = time.time() - 600
    os.utime(left, (long_ago, long_ago))

    done = mlstack(project, "--check")

    assert done.returncode == 0, done.stderr
    assert not list(Layout(project).runs.iterdir())


def test_a_check_that_fails_says_what_is_wrong(project):
    model = project / "my_project" / "model.py"
    model.write_text(model.read_text().replace("return loss", "return loss.detach() * 0"))

    done = mlstack(project, "--check")

    assert done.returncode == 1
    assert "FAILED" in done.stderr or "error:" in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_run_and_resume_goes_on(project, number, code):
    process = begin(project)

    process.send_signal(number)
    _, said = process.communicate(timeout=60)

    assert process.returncode == code
    run = newest(project)
    assert f"mlstack train --resume {run.name}" in said
    stopped = read_events(run)[-1]
    assert isinstance(stopped, Stopped)
    assert stopped.step > 0

    again = begin_resume(project, run.name)

    assert f"from step {stopped.step}" in again


def begin_resume(project, run):
    """Go on with a run until its first epoch is over, then stop it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlstack", "train", "--resume", run],
        cwd=project,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = ""
    for line in process.stderr:
        said += line
        if line.startswith("epoch "):
            break
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    return said


def test_a_run_whose_front_was_killed_leaves_no_process_and_goes_on(project):
    process = begin(project)

    process.kill()
    process.communicate()
    listed = json.loads(mlstack(project, "ls", "--json").stdout)["runs"][0]
    again = begin_resume(project, newest(project).name)

    assert (listed["state"], listed["problem"]) == ("stopped", "its process died")
    assert "goes on" in again


def test_a_terminal_gets_a_bar_and_a_line_per_epoch(project):
    """A person sees both; the bar never stays."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlstack", "train", "--epochs", "2"],
        cwd=project,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = read_all(ours)

    assert process.wait() == 0, shown
    assert "epoch 2/2" in shown
    assert "━" in shown
    assert "next: mlstack export" in shown


def read_all(descriptor):
    shown = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(descriptor)
    return shown.decode(errors="replace")


def test_a_long_run_is_checked_first_and_a_faulty_one_leaves_nothing(trained):
    project, _ = trained
    before = set(run_ids(Layout(project).runs))

    done = mlstack(project, "--epochs", "1000", "--set", "train.monitor=val/nothing", "--json")

    error = json.loads(done.stdout)["error"]
    assert done.returncode == 1
    assert "no `val/nothing`" in error["problem"]
    assert "change train.monitor" in error["hint"]
    assert {name for name in run_ids(Layout(project).runs) if "check" not in name} >= before


def test_two_ranks_reach_each_other_before_anything_else_is_checked(trained):
    project, _ = trained

    done = mlstack(project, "--check", "--ranks", "2", "--json")

    checks = json.loads(done.stdout)["checks"]
    assert checks[0]["name"] == "ranks reach each other"
    assert checks[0]["detail"] == "2 ranks added up 2 over gloo"
