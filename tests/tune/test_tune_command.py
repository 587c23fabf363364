"""`mlstack tune` as a user types it, on 60 images."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlstack.config import load
from mlstack.config.train_sections import Uniform
from mlstack.records.base import read
from mlstack.records.run import SPEC, EpochEnded, RunSpec, find_run, read_events, run_ids, summarise
from mlstack.tune import values

FAST = ("--set", "train.epochs=2", "--set", "data.checks.min_per_class=0")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, project_maker: Callable[..., Path]) -> Path:
    """A project of 60 digits, shared by the tests of this file."""
    return project_maker(tmp_path_factory.mktemp("tune") / "digits", images=60)


def with_space(project: Path, space: str) -> str:
    """Write a second project file with another space to search."""
    before, _, after = (project / "mlstack.yaml").read_text().partition("  space:\n")
    rest = after[after.index("\n\n") :]
    (project / "other.yaml").write_text(f"{before}  space: {space}{rest}")
    return "other.yaml"


def mlstack(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Type a command."""
    return subprocess.run(
        [sys.executable, "-m", "mlstack", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_killed_search_goes_on_and_ends_with_a_run_to_train_from(small: Path) -> None:
    front = subprocess.Popen(
        [sys.executable, "-m", "mlstack", "tune", "--trials", "4", *FAST],
        cwd=small,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert front.stderr is not None
    begun = [front.stderr.readline()]  # the study
    busy = mlstack(small, "tune", "--resume", *FAST)
    running = json.loads(mlstack(small, "tune", "show", "--json").stdout)
    begun.append(front.stderr.readline())  # the first trial
    runs = small / ".mlstack" / "runs"
    seen = max(len(run_ids(runs)), 1)
    while len(run_ids(runs)) == seen:  # killed as a trial begins, however slow the machine is
        time.sleep(0.02)
    front.send_signal(signal.SIGKILL)
    front.wait()
    front.stderr.close()

    stopped = json.loads(mlstack(small, "tune", "show", "--json").stdout)
    gone_on = mlstack(small, "tune", "--resume", *FAST)  # as many as it began with
    quiet = mlstack(small, "tune", "show", "--quiet")

    assert "study" in begun[0] and "trial 0  finished" in begun[1]
    assert busy.returncode == 75 and "busy with study" in busy.stderr
    assert (running["state"], stopped["state"]) == ("running", "stopped")
    assert "running" not in {trial["state"] for trial in stopped["trials"]}
    assert gone_on.returncode == 0, gone_on.stderr
    assert "tried again with the same settings" in gone_on.stderr
    shown = json.loads(mlstack(small, "tune", "show", "--json").stdout)
    states = [trial["state"] for trial in shown["trials"]]
    assert states.count("interrupted") == 1 and len(states) == 5
    assert shown["trials"][0]["parameters"] == {"model.args.lr": 3e-3, "model.args.width": 16}
    lost = next(t for t in shown["trials"] if t["state"] == "interrupted")
    again = [t for t in shown["trials"] if t["parameters"] == lost["parameters"]]
    assert len(again) == 2
    best = quiet.stdout.strip()
    assert best == shown["best"]["run"] and f"--from-run {best}" in gone_on.stdout
    runs = small / ".mlstack" / "runs"
    summary = summarise(runs / find_run(runs, best))
    assert (summary.state, summary.study) == ("finished", shown["study"])


@pytest.mark.slow
def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(small: Path) -> None:
    config = with_space(small, "{model.args.width: {choice: [0, 8]}}")

    done = mlstack(small, "tune", "--config", config, "--set", "tune.sampler=grid", *FAST)

    assert done.returncode == 0, done.stderr
    shown = json.loads(mlstack(small, "tune", "show", "--config", config, "--json").stdout)
    assert {t["parameters"]["model.args.width"]: t["state"] for t in shown["trials"]} == {
        0: "failed",
        8: "finished",
    }
    assert shown["state"] == "finished" and "finished: 2 of 2 trials, 1 failed" in done.stdout
    assert "note: the grid has no more than 2 points" in done.stderr


@pytest.mark.slow
def test_how_pictures_are_augmented_and_drawn_can_be_searched(small: Path) -> None:
    space = "{data.augment: {choice: [none, basic]}, data.sampling: {choice: [balanced]}}"
    config = with_space(small, space)

    done = mlstack(small, "tune", "--config", config, "--set", "tune.sampler=grid", *FAST)

    assert done.returncode == 0, done.stderr
    shown = json.loads(mlstack(small, "tune", "show", "--config", config, "--json").stdout)
    runs = small / ".mlstack" / "runs"
    specs = [read(runs / trial["run"] / SPEC, RunSpec) for trial in shown["trials"]]
    assert sorted((s.config["data"]["augment"], s.config["data"]["sampling"]) for s in specs) == [
        ("basic", "balanced"),
        ("none", "balanced"),
    ]
    assert [trial["state"] for trial in shown["trials"]] == ["finished", "finished"]
    losses = {summarise(runs / trial["run"]).metrics["val/loss"] for trial in shown["trials"]}
    assert len(losses) == 2  # the same seed: the pictures were others


@pytest.mark.slow
def test_trials_are_copied_into_mirrors_when_the_search_is_over(small: Path) -> None:
    mirror = ("--set", "track.mirror=[tensorboard]")

    done = mlstack(small, "tune", "--trials", "1", *mirror, *FAST)

    assert done.returncode == 0, done.stderr
    (trial,) = json.loads(mlstack(small, "tune", "show", "--json").stdout)["trials"]
    assert list((small / ".mlstack" / "tensorboard" / trial["run"]).glob("events.out.*"))


@pytest.mark.slow
def test_a_search_in_which_all_fails_says_why(small: Path) -> None:
    config = with_space(small, "{model.args.width: {choice: [0, -1]}}")

    done = mlstack(small, "tune", "--trials", "1", "--config", config, *FAST)

    assert done.returncode == 1
    assert "every trial failed" in done.stderr and "my_project/model.py" in done.stderr
    assert "Traceback" not in done.stderr
    shown = mlstack(small, "tune", "show", "--html", "study.html", "--config", config)
    assert shown.returncode == 0, shown.stderr
    assert "1 of 1 trial, 1 failed" in shown.stdout and "page: study.html" in shown.stdout
    assert "my_project/model.py" in (small / "study.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_saves_the_trial_and_says_how_to_go_on(
    small: Path, number: signal.Signals, code: int
) -> None:
    front, run = a_trial_at_work(small, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    front.send_signal(number)
    _, words = front.communicate(timeout=60)

    assert front.returncode == code
    assert "stopped after 0 of 2 trials" in words and "--resume` goes on" in words
    assert summarise(run).state == "stopped"
    shown = json.loads(mlstack(small, "tune", "show", "--json").stdout)
    assert [trial["state"] for trial in shown["trials"]] == ["interrupted", "waiting"]


@pytest.mark.slow
def test_a_search_whose_terminal_is_closed_saves_its_trial_and_goes_on(small: Path) -> None:
    ours, theirs = pty.openpty()
    front, run = a_trial_at_work(
        small,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=partial(fcntl.ioctl, theirs, termios.TIOCSCTTY, 0),
    )
    ranks = psutil.Process(front.pid).children(recursive=True)
    os.close(theirs)

    os.close(ours)
    front.wait(60)
    saved = list((run / "checkpoints").glob("last*"))
    stopped = summarise(run)
    gone_on = mlstack(small, "tune", "--resume", "--trials", "1", *FAST)

    assert ranks and not psutil.wait_procs(ranks, timeout=10)[1]
    assert stopped.state == "stopped" and stopped.step > 0 and saved
    assert gone_on.returncode == 0, gone_on.stderr
    assert ": 1 trial," in gone_on.stderr
    assert "1 broken-off trial is tried again" in gone_on.stderr
    shown = json.loads(mlstack(small, "tune", "show", "--json").stdout)
    assert [trial["state"] for trial in shown["trials"]] == ["interrupted", "finished"]


def a_trial_at_work(project: Path, **how: Any) -> tuple["subprocess.Popen[str]", Path]:
    """Start a long search; come back when its first trial has ended an epoch, and name its run."""
    runs = project / ".mlstack" / "runs"
    before = set(run_ids(runs))
    words = ("tune", "--trials", "2", "--set", "train.epochs=9999")
    front = subprocess.Popen(
        [sys.executable, "-m", "mlstack", *words],
        cwd=project,
        text=True,
        env=os.environ | {"MLSTACK_DATA__CHECKS__MIN_PER_CLASS": "0"},
        **how,
    )
    while True:
        assert front.poll() is None
        new = [name for name in run_ids(runs) if name not in before]
        if new and any(isinstance(one, EpochEnded) for one in read_events(runs / new[0])):
            return front, runs / new[0]
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--on", "ray"), 6, "ray is not built yet"),
        (("--on", "moon"), 2, "none of local, ray"),
        (("some-study",), 2, "named after --resume"),
        (("--set", "tune.pruner=pbt"), 2, "not built yet"),
        (("--resume", "no-such"), 3, "there is no study"),
        (("show", "no-such"), 3, "there is no study"),
        (("--gpus", "many"), 2, "neither a number nor"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_code(
    project: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = mlstack(project, "tune", *arguments)

    assert done.returncode == code, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not list(project.glob(".mlstack/studies/*.journal"))


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("{model.args.nope: {choice: [1]}}", "model.args.nope: `Net` takes no argument `nope`"),
        ("{train.gpus: {choice: [1, 2]}}", "`train.gpus` is the same for all trials"),
        ("{train.monitor: {choice: [val/acc]}}", "`train.monitor` is the same for all trials"),
        ("{data.split.train: {choice: [0.8]}}", "`data.split.train` is not a setting of a run"),
        ("{model.args.lr: {uniform: [0, .inf]}}", "inf is not a finite number"),
    ],
)
def test_a_space_that_no_trial_could_follow_is_refused_before_a_study_begins(
    project: Path, space: str, words: str
) -> None:
    done = mlstack(project, "tune", "--config", with_space(project, space))

    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert not list(project.glob(".mlstack/studies/*.journal"))


THIRDS = ("--set", "train.accumulate=3")


@pytest.mark.parametrize(
    ("space", "sets", "problem", "hint"),
    [
        ("{choice: [16, big]}", (), "'big' should be a whole number", "{choice: [16]}"),
        ("{choice: [0, 16]}", (), "0 should be greater than or equal to 1", "{choice: [16]}"),
        ("{choice: [big]}", (), "'big' should be a whole number", "{choice: [64]}"),
        ("{uniform: [16, 64]}", (), "16.000048 should be a whole", "{int_range: [16, 64]}"),
        ("{choice: [16, 33]}", THIRDS, "16 cannot be cut evenly into 3", "{choice: [15, 33]}"),
        ("{int_range: [4, 9]}", THIRDS, "4 cannot be cut evenly into 3", "{choice: [6, 9]}"),
    ],
)
def test_values_that_no_trial_could_have_are_refused_with_what_to_write(
    project: Path, space: str, sets: tuple[str, ...], problem: str, hint: str
) -> None:
    config = with_space(project, f"{{train.batch_size: {space}}}")

    done = mlstack(project, "tune", "--config", config, *sets)

    assert done.returncode == 2, done.stderr
    assert f"tune.space: train.batch_size: {problem}" in done.stderr
    assert f"write `train.batch_size: {hint}`" in done.stderr
    assert not list(project.glob(".mlstack/studies/*.journal"))


def test_a_bound_that_is_never_drawn_is_no_mistake(project: Path) -> None:
    space = {"train.ema": Uniform(uniform=(0, 1))}

    values.check(load(project / "mlstack.yaml"), space, ())


def test_a_file_where_the_studies_should_be_is_named(project: Path) -> None:
    (project / ".mlstack").mkdir(exist_ok=True)
    (project / ".mlstack" / "studies").write_text("")

    done = mlstack(project, "tune", "--trials", "1", *FAST)

    assert done.returncode == 6
    assert "there is a file where a folder must be" in done.stderr


def test_a_project_without_a_space_says_how_to_write_one(project: Path) -> None:
    done = mlstack(project, "tune", "--config", with_space(project, "{}"))

    assert done.returncode == 2
    assert "nothing to search" in done.stderr and "log_uniform" in done.stderr
