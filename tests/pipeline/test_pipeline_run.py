import os
import resource
import shutil
import sqlite3
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from mlstack.config import load
from mlstack.launch import git
from mlstack.pipeline.execute import result_of
from mlstack.pipeline.fresh import dependencies, why_stale
from mlstack.pipeline.pipefile import read_lock
from mlstack.pipeline.stages import code_files, config_slice, digest, stages
from mlstack.records.base import write
from mlstack.records.labels import SCHEMA
from mlstack.records.stage import StageBegun


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def reasons(root: Path, **more) -> dict[str, str]:
    project = load(root / "mlstack.yaml", **more)
    lock = read_lock(root)
    return {s.name: why_stale(project, s, lock.get(s.name)) for s in stages(project)}


def label(root: Path) -> None:
    with sqlite3.connect(root / ".mlstack" / "labels.db") as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(SCHEMA)
        connection.execute(
            "INSERT INTO events (at, annotator, path, action, label)"
            " VALUES (1, 'a', 'b', 'label', 'c')"
        )
    connection.close()


def test_an_up_to_date_project_does_nothing_says_so_and_stock_dvc_agrees(
    fresh, mlstack, dvc_status
) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    done = mlstack("run")

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout
    assert done.stderr == ""
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert "up to date" in dvc_status()


def test_what_run_writes_does_not_make_the_code_dirty(fresh) -> None:
    assert (fresh / "dvc.yaml").is_file()
    assert (fresh / "dvc.lock").is_file()
    assert git.uncommitted(fresh) == []
    assert git.diff(fresh) == ""


@pytest.mark.parametrize(
    ("change", "stage", "why"),
    [
        (
            lambda root: replace(root / "my_project/model.py", "class Net", "class  Net"),
            "train",
            "`my_project/model.py` changed",
        ),
        (
            lambda root: (root / "my_project" / "words.txt").write_text("x"),
            "train",
            "`my_project/words.txt` is new",
        ),
        (
            lambda root: (root / "data/digits/images/0000.png").write_bytes(b"x"),
            "train",
            "`data/digits` changed",
        ),
        (
            lambda root: replace(root / "mlstack.yaml", "epochs: 12", "epochs: 13"),
            "train",
            "the setting `train` changed",
        ),
        (
            lambda root: replace(root / "mlstack.yaml", "min: 0.9", "min: 0.8"),
            "export",
            "the setting `gates` changed",
        ),
        (
            lambda root: (root / ".mlstack/stages/export.json").unlink(),
            "export",
            "it was never run",
        ),
        (lambda root: (root / "dvc.lock").unlink(), "train", "it was never run"),
    ],
)
def test_what_changed_is_named_and_stock_dvc_sees_it_too(
    fresh, dvc_status, change, stage, why
) -> None:
    change(fresh)

    assert reasons(fresh)[stage] == why
    if "is new" not in why:  # a new file is in dvc.yaml only after the next `mlstack run`
        assert f"{stage}:" in dvc_status()


def test_a_change_that_no_stage_reads_makes_nothing_stale(fresh, dvc_status) -> None:
    replace(fresh / "mlstack.yaml", "window: 500", "window: 501")
    (fresh / "my_project" / "__pycache__").mkdir(exist_ok=True)
    (fresh / "my_project" / "__pycache__" / "model.pyc").write_bytes(b"x")
    (fresh / "README.md").write_text("x")

    assert reasons(fresh) == {"train": "", "export": ""}
    assert "up to date" in dvc_status()


def test_an_override_makes_a_stage_stale(fresh) -> None:
    assert reasons(fresh, sets=("train.epochs=3",))["train"] == (
        "a setting is overridden outside mlstack.yaml"
    )


def test_code_that_the_package_imports_is_a_dependency(fresh) -> None:
    (fresh / "layers").mkdir()
    (fresh / "layers" / "blocks.py").write_text("import deeper\n")
    (fresh / "deeper.py").write_text("")
    (fresh / "unused.py").write_text("")
    model = fresh / "my_project" / "model.py"
    model.write_text(f"from layers.blocks import x\n{model.read_text()}")

    found = code_files(load(fresh / "mlstack.yaml"))

    assert {"layers/blocks.py", "deeper.py", "my_project/model.py"} <= found
    assert "unused.py" not in found


def test_a_run_finished_by_a_killed_stage_is_taken_and_recorded(
    fresh, answer, dvc_status, records
) -> None:
    replace(fresh / "mlstack.yaml", "epochs: 12", "epochs: 13")
    project = load(fresh / "mlstack.yaml")
    train = stages(project)[0]
    inputs = [dependencies(fresh, train), digest(config_slice(train, project.config))]
    begun = StageBegun(stage="train", inputs_sha256=digest(inputs), last_run="20260101-000000-aaaa")
    write(fresh / ".mlstack" / "stages" / "train.begun.json", begun)

    records.finish(records.lay_run(fresh, "20260102-000000-bbbb"), 0.96)

    said = answer("run", "train")

    assert said["ok"], said
    assert [(s["stage"], s["ran"], s["result"]) for s in said["stages"]] == [
        ("train", True, "20260102-000000-bbbb")
    ]
    assert not (fresh / ".mlstack" / "stages" / "train.begun.json").exists()
    assert result_of(fresh, train) == "20260102-000000-bbbb"
    assert reasons(fresh)["train"] == ""
    assert reasons(fresh)["export"] == "`.mlstack/stages/train.json` changed"
    assert "train:\n" not in dvc_status().replace("train.json", "")


def test_labels_become_a_stage_that_each_new_event_makes_stale(fresh, mlstack) -> None:
    label(fresh)

    names = [stage.name for stage in stages(load(fresh / "mlstack.yaml"))]

    assert names == ["labels", "train", "export"]
    assert reasons(fresh)["labels"] == "it was never run"


def test_a_users_own_stages_and_comments_stay(snapshotted, mlstack) -> None:
    (snapshotted / "dvc.yaml").write_text(
        "# mine\nstages:\n  prepare: # keep me\n    cmd: echo hello\n"
    )

    mlstack("run", "nothing-like-it")

    text = (snapshotted / "dvc.yaml").read_text()
    assert "# mine" in text
    assert "# keep me" in text
    assert list(YAML(typ="safe").load(text)["stages"]) == ["prepare", "train", "export"]


def test_a_users_stage_with_the_name_of_ours_is_refused(snapshotted, mlstack) -> None:
    (snapshotted / "dvc.yaml").write_text("stages:\n  train:\n    cmd: echo hello\n")

    done = mlstack("run")

    assert done.returncode == 2
    assert "the stage `train` is not mlstack's" in done.stderr


@pytest.mark.parametrize(
    ("trouble", "code", "words"),
    [
        ("no dvc", 3, "version snapshot"),
        ("damaged lock", 3, "dvc.lock"),
        ("damaged yaml", 2, "dvc.yaml"),
        ("unknown stage", 2, "the stages are train, export"),
        ("damaged labels", 3, "labels"),
    ],
)
def test_trouble_is_said_without_a_traceback(snapshotted, mlstack, trouble, code, words) -> None:
    more = []
    match trouble:
        case "no dvc":
            shutil.rmtree(snapshotted / ".dvc")
        case "damaged lock":
            (snapshotted / "dvc.lock").write_text("<<<<<<< HEAD\n{")
        case "damaged yaml":
            (snapshotted / "dvc.yaml").write_text("stages: [")
        case "unknown stage":
            more = ["tune"]
        case "damaged labels":
            (snapshotted / ".mlstack" / "labels.db").write_bytes(b"nonsense" * 100)

    done = mlstack("run", *more)

    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_dvc_repro_runs_the_same_stages(fresh, mlstack) -> None:
    environment = {**os.environ, "DVC_STAGE": "export"}
    lock = (fresh / "dvc.lock").read_bytes()

    done = mlstack("run", "bogus", "--only", env=environment)

    assert done.returncode == 2
    assert (fresh / "dvc.lock").read_bytes() == lock
