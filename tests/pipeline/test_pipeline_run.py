import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlstack import files
from mlstack.config import load
from mlstack.errors import BusyError
from mlstack.label import store
from mlstack.launch import git
from mlstack.pipeline import api, earlier
from mlstack.pipeline.fresh import Look, reasons
from mlstack.pipeline.result import StageRetries
from mlstack.pipeline.stages import stages
from mlstack.pipeline.typed import Manner
from mlstack.records.dataset import DatasetVersion
from mlstack.records.labels import SCHEMA
from mlstack.records.run import CodeVersion
from mlstack.records.stage import StageBegun

DATA = DatasetVersion(name="digits", source="data/digits", md5="a" * 32 + ".dir", files=301)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def why(root: Path, **more) -> dict[str, list[str]]:
    look = Look(load(root / "mlstack.yaml", **more))
    return {stage.name: reasons(look, stage) for stage in stages(look.project)}


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
    assert git.diff(fresh) == b""


@pytest.mark.parametrize(
    ("change", "stage", "reason", "others"),
    [
        (
            lambda root: replace(root / "my_project/model.py", "class Net", "class  Net"),
            "train",
            "`my_project/model.py` changed",
            [],
        ),
        (
            lambda root: replace(root / "my_project/data.py", "class Images", "class  Images"),
            "train",
            "`my_project/data.py` changed",
            [],
        ),
        (
            lambda root: (root / "my_project" / "words.txt").write_text("x"),
            "train",
            "`my_project/words.txt` is new",
            [],
        ),
        (
            lambda root: (root / "data/digits/images/0000.png").write_bytes(b"x"),
            "prepare",
            "`data/digits` changed",
            ["train"],
        ),
        (
            lambda root: replace(
                root / "mlstack.yaml", "train: 0.8, val: 0.1", "train: 0.7, val: 0.2"
            ),
            "prepare",
            "the setting `data.split.train` changed (0.8 -> 0.7)",
            ["train"],
        ),
        (
            lambda root: replace(root / "mlstack.yaml", "epochs: 12", "epochs: 13"),
            "train",
            "the setting `train.epochs` changed (12 -> 13)",
            [],
        ),
        (
            lambda root: replace(root / "mlstack.yaml", "{min: 0.9}", "{min: 0.8}"),
            "export",
            "the setting `gates.validation.test/acc.min` changed (0.9 -> 0.8)",
            [],
        ),
        (
            lambda root: replace(
                root / "mlstack.yaml", "gates:", "serve: {batching: {max_size: 8}}\ngates:"
            ),
            "export",
            "the setting `serve.batching.max_size` is new",
            [],
        ),
        (
            lambda root: (root / ".mlstack/stages/export.json").unlink(),
            "export",
            "`.mlstack/stages/export.json` is gone",
            [],
        ),
        (
            lambda root: (root / "evaluation/metrics.json").unlink(),
            "evaluate",
            "`evaluation/metrics.json` is gone",
            [],
        ),
        (
            lambda root: (root / "evaluation/slices.csv").write_text("x"),
            "evaluate",
            "its result `evaluation/slices.csv` is not the one recorded",
            [],
        ),
        (
            lambda root: (root / "dvc.lock").unlink(),
            "prepare",
            "it was never run",
            ["train", "evaluate", "export"],
        ),
    ],
)
def test_what_changed_is_named_and_stock_dvc_sees_it_too(
    fresh, dvc_status, change, stage, reason, others
) -> None:
    change(fresh)

    found = why(fresh)

    assert found[stage][0] == reason
    assert [name for name in found if found[name]] == sorted(
        [stage, *others], key=list(found).index
    )
    if "is new" not in reason:  # what is new is in dvc.yaml only after the next `mlstack run`
        assert f"{stage}:" in dvc_status()


def test_packs_are_the_data_they_hold_and_what_is_stale_wants_them_laid_out(
    fresh: Path, mlstack, answer
) -> None:
    (fresh / "mlstack.local.yaml").write_text("versioning: {layout: packs}\n")
    assert mlstack("version", "snapshot", "-m", "packed").returncode == 0
    assert mlstack("version", "checkout", "HEAD", "--packed").returncode == 0

    idle, screen = mlstack("run"), answer()
    replace(fresh / "mlstack.yaml", "epochs: 12", "epochs: 2")
    stale = mlstack("run")

    assert not (fresh / "data" / "digits").exists()
    assert idle.returncode == 0 and "everything is up to date" in idle.stdout
    (line,) = [one for one in screen["lines"] if one["part"] == "stages"]
    assert line["state"] == "up to date: prepare, train, evaluate, export"
    assert stale.returncode == 3
    assert "the files of `data/digits` are in packs, not laid out" in stale.stderr
    assert "`mlstack version checkout HEAD`" in stale.stderr
    assert stale.stderr.count("error: ") == 1


def test_a_change_that_no_stage_reads_makes_nothing_stale(fresh, dvc_status) -> None:
    replace(fresh / "mlstack.yaml", "window: 500", "window: 501")
    replace(fresh / "mlstack.yaml", "gates:", "serve: {port: 8001}  # another one\ngates:")
    (fresh / "my_project" / "__pycache__").mkdir(exist_ok=True)
    (fresh / "my_project" / "__pycache__" / "model.pyc").write_bytes(b"x")
    (fresh / "my_project" / "sketch.py").write_text("nobody imports this")
    (fresh / "README.md").write_text("x")

    assert not any(why(fresh).values())
    assert "up to date" in dvc_status()


def test_an_override_makes_a_stage_stale(fresh) -> None:
    found = why(fresh, sets=("train.epochs=3",))

    assert found["train"] == ["a setting is overridden outside mlstack.yaml"]


def test_every_reason_is_told_without_running_or_writing_anything(fresh, answer) -> None:
    replace(fresh / "mlstack.yaml", "epochs: 12", "epochs: 13")
    replace(fresh / "mlstack.yaml", "batch_size: 64 ", "batch_size: 32 ")
    replace(fresh / "my_project/model.py", "class Net", "class  Net")
    before = written(fresh)

    said = answer("run", "--dry")

    plans = {plan["stage"]: (plan["verdict"], plan["why"]) for plan in said["stages"]}
    assert plans == {
        "prepare": ("up to date", []),
        "train": (
            "runs",
            [
                "`my_project/model.py` changed",
                "the setting `train.batch_size` changed (64 -> 32)",
                "the setting `train.epochs` changed (12 -> 13)",
            ],
        ),
        "evaluate": ("runs", ["it follows `train`"]),
        "export": ("runs", ["it follows `train`"]),
    }
    assert written(fresh) == before


def written(folder):
    """Say when each file was written; what git and the index of the data remember is no result."""
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if ".git/" not in str(path) and ".mlstack/index" not in str(path)
    }


def test_a_stage_comes_with_what_it_needs_and_nothing_else(fresh, answer) -> None:
    (fresh / "dvc.lock").unlink()

    of_export = answer("run", "export", "--dry")
    of_prepare = answer("run", "prepare", "--dry")
    forced = answer("run", "evaluate", "--force", "--dry")

    assert [plan["stage"] for plan in of_export["stages"]] == ["prepare", "train", "export"]
    assert [plan["stage"] for plan in of_prepare["stages"]] == ["prepare"]
    assert forced["stages"][-1]["why"] == ["asked for"]


def test_a_run_of_the_same_inputs_is_taken_instead_of_training_again(
    fresh, answer, dvc_status, records
) -> None:
    replace(fresh / "mlstack.yaml", "epochs: 12", "epochs: 13")
    run = records.lay_run(
        fresh, "20260102-000000-bbbb", dataset=records.data_of(fresh), code=records.code_of(fresh)
    )
    records.finish(run, 0.96)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").write_bytes(b"x")

    said = answer("run", "train")

    assert said["ok"], said
    train = said["stages"][-1]
    assert (train["stage"], train["result"], train["how"]) == ("train", run.name, "taken")
    assert not (fresh / ".mlstack" / "stages" / "train.begun.json").exists()
    found = why(fresh)
    assert found["train"] == []
    assert found["export"] == ["`.mlstack/stages/train.json` changed"]
    assert "train:\n" not in dvc_status().replace("train.json", "")


@pytest.mark.parametrize(
    "different",
    [
        {"dataset": DATA},
        {"code": CodeVersion(python_sha256="0" * 64)},
        {"study": "s", "trial": 1},
        {"mode": "check"},
    ],
)
def test_a_run_of_other_inputs_is_not_taken(fresh, records, different) -> None:
    same = {"dataset": records.data_of(fresh), "code": records.code_of(fresh)}
    run = records.lay_run(fresh, "20260102-000000-bbbb", **(same | different))
    records.finish(run, 0.96)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").write_bytes(b"x")
    look = Look(load(fresh / "mlstack.yaml"))
    begun = StageBegun(stage="train", inputs_sha256="0", last_run="20260101-000000-aaaa")
    train = next(stage for stage in stages(look.project) if stage.name == "train")

    assert earlier.run_of(look, train, begun) is None


def test_labels_become_a_stage_that_each_new_event_makes_stale(fresh, mlstack) -> None:
    label(fresh)

    names = [stage.name for stage in stages(load(fresh / "mlstack.yaml"))]

    assert names == ["labels", "prepare", "train", "evaluate", "export"]
    assert why(fresh)["labels"] == ["it was never run"]


def test_a_users_stage_with_the_name_of_ours_is_refused(snapshotted, mlstack) -> None:
    (snapshotted / "dvc.yaml").write_text("stages:\n  train:\n    cmd: echo hello\n")

    done = mlstack("run")

    assert done.returncode == 2
    assert "the stage `train` is not mlstack's" in done.stderr


@pytest.mark.parametrize(
    ("trouble", "code", "words"),
    [
        ("no dvc", 3, "version snapshot"),
        ("no git", 3, "type `git init`, then `mlstack version snapshot -m MESSAGE`"),
        ("damaged lock", 3, "dvc.lock"),
        ("damaged yaml", 2, "dvc.yaml"),
        ("unknown stage", 2, "the stages are prepare, train, evaluate, export"),
        ("damaged labels", 3, "labels"),
    ],
)
def test_trouble_is_said_without_a_traceback(snapshotted, mlstack, trouble, code, words) -> None:
    more = []
    match trouble:
        case "no dvc":
            shutil.rmtree(snapshotted / ".dvc")
        case "no git":
            shutil.rmtree(snapshotted / ".git")
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


def test_what_dvc_repro_runs_is_recorded_by_dvc_alone(fresh, mlstack) -> None:
    environment = {**os.environ, "DVC_STAGE": "export"}
    lock = (fresh / "dvc.lock").read_bytes()

    done = mlstack("run", "bogus", "--only", env=environment)

    assert done.returncode == 2
    assert (fresh / "dvc.lock").read_bytes() == lock


def test_an_idle_run_imports_neither_dvc_nor_torch(fresh) -> None:
    code = (
        "import sys; sys.argv = ['mlstack', 'run']\n"
        "from mlstack.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'dvc', 'torch', 'duckdb', 'onnxruntime'} & set(sys.modules)\n"
        "assert code == 0 and not heavy, (code, heavy)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=fresh, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout


def test_a_pipeline_that_dvc_refuses_is_refused_before_anything_runs(fresh, mlstack) -> None:
    replace(fresh / "mlstack.yaml", "epochs: 12", "epochs: 13")
    text = (fresh / "dvc.yaml").read_text()
    (fresh / "dvc.yaml").write_text(f"{text}  mine:\n    deps: [a]\n")

    done = mlstack("run")

    assert done.returncode == 2
    assert "dvc refuses the pipeline" in done.stderr
    assert "mine" in done.stderr
    assert "-- train" not in done.stderr
    assert len(list((fresh / ".mlstack" / "runs").iterdir())) == 1


@pytest.mark.slow
def test_a_label_makes_the_labels_stale_for_run_and_for_stock_dvc(
    fresh, answer, dvc_status
) -> None:
    rows = "".join(f"images/{number:04d}.png,{number % 10}\n" for number in range(300))
    (fresh / "labels.csv").write_text(f"path,label\n{rows}")
    first = answer("label", "import", "labels.csv")
    made = answer("run", "prepare")
    assert first["ok"]
    assert made["ok"], made
    assert "up to date" not in dvc_status()  # labels were given at random: train must follow
    assert "labels:" not in dvc_status()
    assert "prepare:" not in dvc_status()
    (fresh / "labels.csv").write_text("path,label\nimages/0001.png,7\n")

    answer("label", "import", "labels.csv")

    assert "labels:" in dvc_status()
    plans = answer("run", "--dry")["stages"]
    assert [(plan["stage"], plan["verdict"]) for plan in plans[:2]] == [
        ("labels", "runs"),
        ("prepare", "may run"),
    ]
    assert plans[0]["why"] == ["`.mlstack/stages/labels.events` changed"]
    again = answer("run", "prepare")
    assert [stage["ran"] for stage in again["stages"]] == [True, True]
    assert not any(answer("run", "prepare")["stages"][place]["ran"] for place in (0, 1))
    assert "labels:" not in dvc_status()


@pytest.mark.slow
def test_an_event_that_changes_no_label_reruns_the_export_of_labels_alone(fresh, answer) -> None:
    rows = "".join(f"images/{number:04d}.png,{number % 10}\n" for number in range(300))
    (fresh / "labels.csv").write_text(f"path,label\n{rows}")
    answer("label", "import", "labels.csv")
    answer("run", "prepare")
    store.append(fresh / ".mlstack" / "labels.db", [store.Draft("anna", "images/0001.png", "skip")])

    said = answer("run", "prepare")

    assert [(stage["stage"], stage["ran"]) for stage in said["stages"]] == [
        ("labels", True),
        ("prepare", False),
    ]


@pytest.mark.slow
def test_a_stage_waits_for_what_is_busy_and_tries_again(fresh, mlstack) -> None:
    label(fresh)
    replace_label(fresh)
    released = threading.Event()

    def hold() -> None:
        with files.lock(fresh / ".mlstack" / "version.lock", "a test"):
            held.set()
            released.wait(20)

    held = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    timer = threading.Timer(7, released.set)
    timer.start()

    done = mlstack("run", "labels")

    holder.join()
    timer.join()
    assert done.returncode == 0, done.stderr
    assert "ended with exit code 75; attempt 2 of 4 in 2 s" in done.stderr


@pytest.mark.slow
def test_what_stays_busy_ends_with_75_when_nothing_is_tried_again(fresh, mlstack) -> None:
    label(fresh)
    replace_label(fresh)

    with files.lock(fresh / ".mlstack" / "version.lock", "a test"):
        done = mlstack("run", "labels", "--retries", "0")

    assert done.returncode == 75
    assert "attempt" not in done.stderr


def replace_label(root: Path) -> None:
    """Give a label to a real image, so that there is something to export."""
    draft = store.Draft("anna", "images/0001.png", "label", "7")
    store.append(root / ".mlstack" / "labels.db", [draft])


@pytest.mark.filterwarnings("ignore:_NoneStep")  # DVC's own
def test_a_run_that_somebody_still_trains_is_waited_for_and_taken(fresh, records) -> None:
    replace(fresh / "mlstack.yaml", "epochs: 12", "epochs: 13")
    run = records.lay_run(
        fresh, "20260102-000000-bbbb", dataset=records.data_of(fresh), code=records.code_of(fresh)
    )
    project = load(fresh / "mlstack.yaml")
    seen = []

    with ExitStack() as held:
        held.enter_context(files.lock(run / "lock", "a test"))
        for said in api.run(project, api.Wish("train"), Manner(retries=2, first_wait_s=0.01)):
            seen.append(said)
            if isinstance(said, StageRetries):
                (run / "checkpoints").mkdir()
                (run / "checkpoints" / "last.ckpt").write_bytes(b"x")
                records.finish(run, 0.9)
                held.close()

    waits = [said for said in seen if isinstance(said, StageRetries)]
    assert [(said.attempt, said.attempts) for said in waits] == [(2, 3)]
    assert "still at work" in waits[0].problem
    assert seen[-1].stages[-1].result == run.name


@pytest.mark.filterwarnings("ignore:_NoneStep")  # DVC's own
def test_a_run_that_is_trained_for_long_ends_with_75(fresh, records) -> None:
    replace(fresh / "mlstack.yaml", "epochs: 12", "epochs: 13")
    run = records.lay_run(
        fresh, "20260102-000000-bbbb", dataset=records.data_of(fresh), code=records.code_of(fresh)
    )
    project = load(fresh / "mlstack.yaml")
    wish, manner = api.Wish("train"), Manner(retries=3, first_wait_s=0.01)
    waits = []

    with files.lock(run / "lock", "a test"), pytest.raises(BusyError, match=run.name):
        for said in api.run(project, wish, manner):
            waits += [said.wait_s] if isinstance(said, StageRetries) else []

    assert waits == [0.01, 0.02, 0.04]
