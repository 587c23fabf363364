"""Copies of whole runs on an S3 server and in a folder, and machines that go on with them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3_server
from train.test_train_command import begin
from train.test_train_runs import make_run

from mlstack.config import load
from mlstack.errors import BusyError, ConfigError, DataError, MachineError
from mlstack.launch import mirrors
from mlstack.records.layout import Layout
from mlstack.records.mirror import COPY, last_state
from mlstack.records.run import CHECKPOINTS, EVENTS, LAST, SPEC, Stepped, append_event, run_ids
from mlstack.train.copies import Copies, files_of
from mlstack.train.resume import bring

BUCKET = "shelf"


@pytest.fixture(scope="module")
def s3() -> Iterator[s3_server.S3]:
    with s3_server.serving() as server:
        server.client().create_dir(BUCKET)
        yield server


def mlstack(project: Path, *words: str, env: dict[str, str] | None = None):
    return subprocess.run(
        [sys.executable, "-m", "mlstack", *words],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def set_copy(project: Path, url: str) -> None:
    settings = project / "mlstack.yaml"
    settings.write_text(f"{settings.read_text()}\ntrack: {{copy_to: '{url}'}}\n")
    subprocess.run(["git", "commit", "-qam", "copy runs"], cwd=project, check=True)


def other_machine(project: Path, target: Path) -> Path:
    """Lay out what git and `version pull` bring, without a run."""
    shutil.copytree(project, target, ignore=shutil.ignore_patterns(".mlstack", "__pycache__"))
    return target


def made(project: Path) -> Path:
    """Make a run of a training that never was."""
    return Layout(project).run(make_run(project).id)


def copied(root: Path, shelf: Path) -> tuple[Path, Copies]:
    """Make a run with a checkpoint in a project, and copy it into a folder."""
    folder = made(root)
    (folder / CHECKPOINTS).mkdir()
    (folder / CHECKPOINTS / LAST).write_bytes(b"weights")
    list(mirrors.copy(COPY, [folder], str(shelf)))
    return folder, Copies(str(shelf), root)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_elsewhere_from_its_copy_and_ends_in_the_same_metrics(
    project: Path, tmp_path: Path, s3: s3_server.S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    set_copy(project, f"s3://{BUCKET}/runs")
    whole = mlstack(project, "train", "--epochs", "60", "--json")
    assert whole.returncode == 0, whole.stderr
    first = json.loads(whole.stdout)
    process = begin(project, "--epochs", "60", mark="epoch  3/")
    process.terminate()
    process.communicate()
    assert process.returncode == 143
    there = other_machine(project, tmp_path / "there")

    done = mlstack(there, "train", "--resume", "--json")

    assert done.returncode == 0, done.stderr
    resumed = json.loads(done.stdout)
    assert resumed["run"] != first["run"]
    assert resumed["metrics"] == first["metrics"]
    kept = f"runs/{resumed['run']}/{CHECKPOINTS}/best.ckpt"
    assert s3.objects(BUCKET)[kept] == (there / resumed["checkpoint"]).read_bytes()


@pytest.mark.slow
def test_a_run_whose_machine_died_is_not_taken_over_before_its_copy_is_silent(
    project: Path, tmp_path: Path
) -> None:
    shelf = tmp_path / "shelf"
    set_copy(project, str(shelf))
    process = begin(project)
    while not list(shelf.glob(f"*/{EVENTS}")):
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    there = other_machine(project, tmp_path / "there")

    soon = mlstack(there, "train", "--resume")

    assert soon.returncode == 75
    assert "seems to be trained on another machine" in soon.stderr
    assert not run_ids(Layout(there).runs)


def test_a_copy_in_a_folder_is_the_run_without_what_means_something_here_only(
    project: Path,
    tmp_path: Path,
) -> None:
    folder, copies = copied(project, tmp_path / "shelf")
    (folder / "heartbeat-0").write_bytes(b"x")

    there = tmp_path / "shelf" / folder.name

    names = {p.relative_to(there).as_posix() for p in there.rglob("*") if p.is_file()}
    assert {SPEC, EVENTS, f"{CHECKPOINTS}/{LAST}"} <= names == set(files_of(folder))
    assert all((there / name).read_bytes() == (folder / name).read_bytes() for name in names)
    assert copies.runs() == [folder.name]
    state = last_state(folder, COPY)
    assert state is not None
    assert state.where == str(there)


def test_the_events_are_copied_last_and_only_in_whole_lines(project: Path, tmp_path: Path) -> None:
    folder = made(project)
    (folder / CHECKPOINTS).mkdir()
    (folder / CHECKPOINTS / LAST).write_bytes(b"weights")
    whole = (folder / EVENTS).read_bytes()
    (folder / EVENTS).write_bytes(whole + b'{"type": "run.st')

    list(mirrors.copy(COPY, [folder], str(tmp_path / "shelf")))

    assert list(files_of(folder))[-1] == EVENTS
    assert (tmp_path / "shelf" / folder.name / EVENTS).read_bytes() == whole


def test_checkpoints_that_are_dropped_here_are_dropped_there(project: Path, tmp_path: Path) -> None:
    from mlstack.train.worker.mirrors.folder import copy_changes

    folder, copies = copied(project, tmp_path / "shelf")
    before = files_of(folder)
    (folder / CHECKPOINTS / LAST).unlink()

    copy_changes(copies, folder, files_of(folder), before)

    assert not (tmp_path / "shelf" / folder.name / CHECKPOINTS / LAST).exists()


def test_a_place_that_cannot_be_reached_is_told_and_no_run_fails(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server.serving() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    folder = made(project)

    with pytest.raises(BusyError, match="cannot be reached"):
        list(mirrors.copy(COPY, [folder], f"s3://{BUCKET}/runs"))

    (late,) = mirrors.behind(folder, [COPY])
    assert f"s3://{BUCKET}/runs" in late.problem
    assert "mlstack train mirror" in late.hint


def test_a_bucket_that_is_not_there_is_named(
    project: Path, tmp_path: Path, s3: s3_server.S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    folder = made(project)

    with pytest.raises(BusyError, match="s3://nowhere/runs"):
        list(mirrors.copy(COPY, [folder], "s3://nowhere/runs"))


@pytest.mark.parametrize(("url", "error"), [("warp://x", ConfigError), ("gs://x", MachineError)])
def test_a_url_that_nobody_speaks_says_what_to_type(
    tmp_path: Path, url: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"track\.copy_to"):
        Copies(url, tmp_path)


def test_a_run_that_is_not_in_the_copy_is_refused(project: Path, tmp_path: Path) -> None:
    _, copies = copied(project, tmp_path / "shelf")

    with pytest.raises(DataError, match="has no run `other`"):
        list(copies.fetch("other", tmp_path / "there"))


def test_what_was_half_fetched_has_no_name(project: Path, tmp_path: Path) -> None:
    folder, copies = copied(project, tmp_path / "shelf")
    target = Layout(tmp_path / "there").run(folder.name)

    coming = copies.fetch(folder.name, target)
    next(coming)
    coming.close()

    assert not target.exists()
    assert run_ids(target.parent) == []


def test_a_run_that_goes_on_elsewhere_is_fetched_when_it_is_named_and_silent(
    project: Path, tmp_path: Path
) -> None:
    folder = made(project)
    (folder / EVENTS).write_bytes(b"")
    append_event(folder, Stepped(run=folder.name, at=1.0, epoch=1, step=3, batch=3, batches=9))
    list(mirrors.copy(COPY, [folder], str(tmp_path / "shelf")))
    there = other_machine(project, tmp_path / "there")
    set_copy(there, str(tmp_path / "shelf"))

    paused: list[float] = []

    fetched = list(bring(load(there / "mlstack.yaml"), folder.name[-4:], pause=paused.append))

    assert paused == [20.0]

    assert fetched[-1].done == fetched[-1].total > 0
    assert run_ids(Layout(there).runs) == [folder.name]


@pytest.mark.parametrize("wrong_s", [-7200.0, 7200.0])
def test_a_run_on_a_machine_whose_clock_is_wrong_is_not_taken_from_it(
    project: Path, tmp_path: Path, wrong_s: float
) -> None:
    folder, shelf = made(project), tmp_path / "shelf"
    steps = [
        Stepped(run=folder.name, at=time.time() + wrong_s + n, epoch=1, step=n, batch=n, batches=9)
        for n in (1, 2)
    ]
    (folder / EVENTS).write_bytes(b"")
    append_event(folder, steps[0])
    list(mirrors.copy(COPY, [folder], str(shelf)))
    there = other_machine(project, tmp_path / "there")
    set_copy(there, str(shelf))

    def go_on(_: float) -> None:
        append_event(folder, steps[1])
        list(mirrors.copy(COPY, [folder], str(shelf)))

    with pytest.raises(BusyError, match="trained on another machine"):
        list(bring(load(there / "mlstack.yaml"), None, pause=go_on))
    assert run_ids(Layout(there).runs) == []
    list(bring(load(there / "mlstack.yaml"), None, pause=lambda _: None))
    assert run_ids(Layout(there).runs) == [folder.name]
