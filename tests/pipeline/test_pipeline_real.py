"""The whole pipeline with a real net, next to stock DVC, and killed in the middle."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlstack.records.run import EpochEnded, Finished, Started, read_events, run_ids

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}


def typed(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command with `mlstack` and `dvc` of this Python."""
    command = [sys.executable, "-m", *words]
    return subprocess.run(
        command, cwd=root, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )


def mlstack(root: Path, *words: str) -> dict:
    done = typed(root, "mlstack", *words, "--json")
    said = json.loads(done.stdout)
    assert said["ok"], (said, done.stderr)
    return said


def dvc(root: Path, *words: str) -> str:
    done = typed(root, "dvc", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ran(said: dict) -> list[str]:
    return [stage["stage"] for stage in said["stages"] if stage["ran"]]


def change(root: Path, old: str, new: str, name: str = "mlstack.yaml") -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new))


def runs(root: Path) -> list[str]:
    return run_ids(root / ".mlstack" / "runs")


def packages(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "models" / "my_project").glob("[0-9]*"))


def epochs(root: Path, run: str) -> int:
    return sum(isinstance(e, EpochEnded) for e in read_events(root / ".mlstack" / "runs" / run))


@pytest.fixture(scope="module")
def made(tmp_path_factory, project_maker) -> Path:
    """A small project that one `mlstack run` has brought up to date."""
    root = project_maker(tmp_path_factory.mktemp("real") / "demo", images=150)
    change(root, "epochs: 12", "epochs: 1")
    change(root, "{min: 0.9}", "{min: 0.0}")
    change(root, "metric: acc, min: 0.7", "metric: acc, min: 0.0")
    mlstack(root, "version", "snapshot", "-m", "first data")
    assert ran(mlstack(root, "run")) == ["prepare", "train", "evaluate", "export"]
    return root


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "demo", symlinks=True)


@pytest.fixture
def start(here: Path):
    """Start a command and wait until it has come to some point; what is left over is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(until: Callable[[], bool], *words: str) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-m", "mlstack", *words],
            cwd=here,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        deadline = time.monotonic() + 120
        while not until():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def test_stock_dvc_agrees_with_what_run_has_made_and_shows_its_figures(made) -> None:
    again = typed(made, "mlstack", "run")
    shown = json.loads(dvc(made, "metrics", "show", "--json"))
    dvc(made, "plots", "show", "-o", str(made / ".mlstack" / "plots"))

    assert "nothing to do" in again.stdout
    assert "up to date" in dvc(made, "status")
    assert "Running stage" not in dvc(made, "repro")
    (figures,) = shown[""]["data"].values()
    measured = json.loads((made / "evaluation" / "metrics.json").read_text())
    assert figures["data"] == measured
    assert 0 < measured["test"]["acc"] <= 1
    page = (made / ".mlstack" / "plots" / "index.html").read_text()
    assert "which class is taken for which" in page
    assert "val/acc in each epoch" in page


def test_dvc_repro_and_run_do_the_same_and_leave_nothing_for_each_other(here, tmp_path) -> None:
    change(here, "epochs: 1\n", "epochs: 2\n")
    other = shutil.copytree(here, tmp_path / "other", symlinks=True)

    by_dvc = typed(here, "dvc", "repro")
    by_run = mlstack(other, "run")

    assert by_dvc.returncode == 0, by_dvc.stderr
    stages = [line.split("'")[1] for line in by_dvc.stdout.splitlines() if "Running stage" in line]
    assert stages == ran(by_run) == ["train", "evaluate", "export"]
    for name in ("metrics.json", "confusion.csv", "training.csv", "classes.csv"):
        path = Path("evaluation", name)
        assert (here / path).read_bytes() == (other / path).read_bytes()
    assert ran(mlstack(here, "run")) == []
    assert "Running stage" not in dvc(other, "repro")
    assert "up to date" in dvc(here, "status")
    assert "up to date" in dvc(other, "status")


def test_dvc_repro_with_force_trains_again_though_the_same_run_is_there(here) -> None:
    before = runs(here)

    dvc(here, "repro", "--force", "--single-item", "train")

    assert len(runs(here)) == len(before) + 1
    verdicts = [plan["verdict"] for plan in mlstack(here, "run", "--dry")["stages"]]
    assert verdicts == ["up to date", "up to date", "runs", "runs"]


def test_other_gates_measure_again_and_train_nothing(here) -> None:
    before = runs(here)
    change(here, "{min: 0.0}", "{min: 0.01}")

    said = mlstack(here, "run")

    assert ran(said) == ["export"]
    assert runs(here) == before
    assert packages(here) == ["1", "2"]


def test_a_run_that_was_trained_by_hand_is_not_trained_again(here) -> None:
    change(here, "epochs: 1\n", "epochs: 2\n")
    by_hand = mlstack(here, "train")["run"]
    before = runs(here)

    said = mlstack(here, "run", "train")

    assert (said["stages"][-1]["result"], said["stages"][-1]["how"]) == (by_hand, "taken")
    assert runs(here) == before


@pytest.mark.parametrize("wanted", [0, 3])
def test_kill_9_in_training_is_gone_on_with_in_the_same_run(here, start, wanted) -> None:
    change(here, "epochs: 1\n", "epochs: 60\n")
    before = runs(here)

    def far_enough() -> bool:
        return len(runs(here)) > len(before) and epochs(here, runs(here)[-1]) >= wanted

    start(far_enough, "run").kill()
    (run,) = set(runs(here)) - set(before)

    said = mlstack(here, "run")

    train = next(stage for stage in said["stages"] if stage["stage"] == "train")
    assert (train["result"], train["how"]) == (run, "resumed")
    assert set(runs(here)) == {*before, run}
    events = read_events(here / ".mlstack" / "runs" / run)
    attempts = [event for event in events if isinstance(event, Started)]
    assert isinstance(events[-1], Finished)
    if wanted:
        assert len(attempts) == 2
        assert attempts[-1].step > 0
    assert ran(mlstack(here, "run")) == []
    assert "up to date" in dvc(here, "status")


@pytest.mark.parametrize("moment", ["measuring", "packed"])
def test_kill_9_in_export_leaves_one_package(here, start, moment) -> None:
    change(here, "{min: 0.0}", "{min: 0.01}")

    def far_enough() -> bool:
        if moment == "packed":
            return packages(here) == ["1", "2"]
        return any((here / ".mlstack").rglob("measure.json"))

    start(far_enough, "run").kill()
    said = mlstack(here, "run")

    assert packages(here) == ["1", "2"]
    assert said["stages"][-1]["result"] == "my_project/2"
    assert ran(mlstack(here, "run")) == []
    assert "up to date" in dvc(here, "status")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_stage_and_the_next_run_goes_on(here, start, number, code) -> None:
    change(here, "epochs: 1\n", "epochs: 60\n")
    before = runs(here)
    process = start(
        lambda: len(runs(here)) > len(before) and epochs(here, runs(here)[-1]) >= 1, "run"
    )
    second = typed(here, "mlstack", "run")

    process.send_signal(number)

    assert process.wait(timeout=60) == code
    told = process.stderr.read().decode()
    assert told.count("error: ") == 1 and f"run `{runs(here)[-1]}` was stopped" in told
    assert second.returncode == 75
    assert "another mlstack is busy with `mlstack run`" in second.stderr
    change(here, "epochs: 60\n", "epochs: 60  # a comment changes nothing\n")
    said = mlstack(here, "run", "train")
    assert said["stages"][-1]["how"] == "resumed"
    assert len(runs(here)) == len(before) + 1


def test_code_that_changes_while_it_is_trained_is_not_recorded_as_trained(here, start) -> None:
    change(here, "epochs: 1\n", "epochs: 30\n")
    before = runs(here)
    lock = (here / "dvc.lock").read_bytes()
    process = start(
        lambda: len(runs(here)) > len(before) and epochs(here, runs(here)[-1]) >= 1, "run"
    )

    change(here, "class Net(", "# later\nclass Net(", "my_project/model.py")
    code = process.wait(timeout=120)

    assert code == 1
    said = process.stderr.read().decode()
    assert "`my_project/model.py` changed while the stage `train` ran" in said
    assert runs(here)[-1] in said
    assert (here / "dvc.lock").read_bytes() == lock
