"""A project with a finished run, made without the training worker: real data, real weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from export_runs import TRAIN, copy_project, finish, python_path, write_run
from projects import make_project

from mlstack.records import dataset, run


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A digits project of 600 images with one finished run; nobody changes it."""
    root = make_project(tmp_path_factory.mktemp("export") / "digits", images=600)
    folder = write_run(root)
    script = root.parent / "train.py"
    script.write_text(TRAIN)
    subprocess.run(
        [sys.executable, script, folder / dataset.EXAMPLES, folder / run.CHECKPOINTS / run.BEST],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": python_path(root)},
        check=True,
        capture_output=True,
    )
    finish(folder)
    return root


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    """A copy of the trained project that a test may change; its examples stay where they were."""
    return copy_project(trained_once, tmp_path)


@pytest.fixture
def prepared(project: Path) -> Path:
    """A project with a finished run whose checkpoint is empty: nothing heavy can start on it."""
    folder = write_run(project)
    (folder / run.CHECKPOINTS / run.BEST).write_bytes(b"")
    finish(folder)
    return project
