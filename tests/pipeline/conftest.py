"""A snapshotted digits project, and the records that training and export would leave in it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlstack import files
from mlstack.config import load
from mlstack.launch import code, division
from mlstack.pipeline import dvc_bridge, evaluation, pipefile
from mlstack.pipeline.stages import Stage, config_slice, digest, stages
from mlstack.records import dvc
from mlstack.records.base import write
from mlstack.records.dataset import DatasetVersion
from mlstack.records.evaluation import ANSWERS, ANSWERS_SCHEMA, FILE, Evaluation
from mlstack.records.lineage import Lineage
from mlstack.records.package import Manifest
from mlstack.records.run import CodeVersion, Environment, Finished, RunSpec, append_event
from mlstack.records.stage import StageState

DATA = DatasetVersion(name="digits", source="data/digits", md5="a" * 32 + ".dir", files=301)
MACHINE = Environment(python="3.11.7", platform="linux", cpu_count=2)


def lay_run(root: Path, run: str, **more: Any) -> Path:
    """Write run.json as training does before it starts."""
    config = load(root / "mlstack.yaml").config.model_dump(mode="json", by_alias=True)
    given = {
        "id": run,
        "created": "2026-01-02T03:04:05Z",
        "root": str(root),
        "command": ["mlstack", "train"],
        "config": config,
        "dataset": DATA,
        "code": CodeVersion(commit="c" * 40),
        "environment": MACHINE,
        "seed": 17,
        "classes": list("0123456789"),
    }
    spec = RunSpec(**(given | more))
    write(root / ".mlstack" / "runs" / run / "run.json", spec)
    return root / ".mlstack" / "runs" / run


def data_of(root: Path) -> DatasetVersion:
    """Name the data as its pointer does, so that a package is of the data as it is."""
    pointer = dvc.read_pointer(root / "data" / "digits.dvc")
    assert pointer is not None
    return msgspec.structs.replace(DATA, md5=pointer.md5)


def code_of(root: Path) -> CodeVersion:
    """Name the code as it is."""
    return CodeVersion(python_sha256=code.python_sha256(root))


def finish(folder: Path, accuracy: float) -> None:
    end = Finished(run=folder.name, at=1.0, step=10, epoch=2, metrics={"val/acc": accuracy})
    append_event(folder, end)


def lay_package(root: Path, number: int, run: str, created: str = "2026-01-02T05:00:00Z") -> None:
    record = Lineage(
        model="my_project",
        number=number,
        run=run,
        created=created,
        dataset=data_of(root),
        code=CodeVersion(commit="c" * 40),
        environment=MACHINE,
        config={},
        seed=17,
        checkpoint_sha256="d" * 64,
    )
    package = root / "models" / "my_project" / str(number)
    lineage = package / "mlstack" / "lineage.json"
    write(lineage, record)
    manifest = Manifest(
        model="my_project",
        number=number,
        run=run,
        created=record.created,
        mlstack="1",
        files={"mlstack/lineage.json": files.sha256(lineage)},
        size_bytes=lineage.stat().st_size,
    )
    write(package / "mlstack" / "manifest.json", manifest)


def lay_evaluation(root: Path, run: str) -> None:
    """Write what `mlstack train evaluate` leaves."""
    folder = root / ".mlstack" / "runs" / run
    figures = {"acc": 0.5, "loss": 1.0, "f1": 0.5, "ece": 0.1}
    write(folder / FILE, Evaluation(run=run, part="test", examples=2, metrics=figures))
    rows = [
        {"path": str(root / "data/digits/images/0000.png"), "label": "0", "prediction": "0"},
        {"path": str(root / "data/digits/images/0001.png"), "label": "1", "prediction": "7"},
    ]
    answers = [{"row": None, "confidence": 0.9, **row} for row in rows]
    pq.write_table(pa.Table.from_pylist(answers, schema=ANSWERS_SCHEMA), folder / ANSWERS)
    evaluation.write(root, run, "data/digits")


def record(root: Path, stage: Stage, result: str) -> None:
    """Leave what a finished stage leaves."""
    settings = digest(config_slice(stage, load(root / "mlstack.yaml").config))
    state = StageState(stage=stage.name, result=result, config_sha256=settings)
    write(root / stage.out, state)
    dvc_bridge.record(root, stage.name)


@pytest.fixture
def mlstack(project: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `mlstack ...` in the project."""

    def run(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mlstack", *words]
        return subprocess.run(
            command, cwd=project, capture_output=True, text=True, check=False, **more
        )

    return run


@pytest.fixture
def answer(mlstack: Any) -> Callable[..., dict[str, Any]]:
    """Run `mlstack ... --json`; give the object it prints."""
    return lambda *words: json.loads(mlstack(*words, "--json").stdout)


@pytest.fixture
def snapshotted(project: Path, mlstack: Any) -> Path:
    done = mlstack("version", "snapshot", "-m", "first data")
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first `fresh` project is kept for the tests after it."""
    return tmp_path_factory.mktemp("shelf") / "fresh"


@pytest.fixture
def fresh(project: Path, mlstack: Any, shelf: Path) -> Path:
    """A project whose stages are all up to date."""
    if shelf.is_dir():
        shutil.rmtree(project)
        shutil.copytree(shelf, project)
        return project
    assert mlstack("version", "snapshot", "-m", "first data").returncode == 0
    finish(lay_run(project, "20260101-000000-aaaa"), 0.95)
    lay_package(project, 1, "20260101-000000-aaaa")
    lay_evaluation(project, "20260101-000000-aaaa")
    division.write(load(project / "mlstack.yaml"))
    known = stages(load(project / "mlstack.yaml"))
    pipefile.keep(project, known)
    results = ("240 train, 30 val, 30 test", "20260101-000000-aaaa", "test/acc 0.5", "my_project/1")
    for stage, result in zip(known, results, strict=True):
        record(project, stage, result)
    shutil.copytree(project, shelf)
    return project


@pytest.fixture
def dvc_status(project: Path) -> Callable[[], str]:
    """Ask stock DVC what is stale."""
    command = [sys.executable, "-m", "dvc", "status"]
    return lambda: (
        subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    )


class Records:
    """What training and export leave, for tests that lay it out step by step."""

    lay_run = staticmethod(lay_run)
    finish = staticmethod(finish)
    lay_package = staticmethod(lay_package)
    data_of = staticmethod(data_of)
    code_of = staticmethod(code_of)


@pytest.fixture
def records() -> type[Records]:
    return Records
