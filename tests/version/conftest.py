"""A digits project whose data stock DVC keeps, and commands run as a user runs them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def run_in(folder: Path) -> Run:
    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def in_folder() -> Callable[[Path], Run]:
    """Give a function that runs `mlstack ...` in a folder."""
    return lambda folder: lambda *words: run_in(folder)(sys.executable, "-m", "mlstack", *words)


@pytest.fixture
def version(project: Path) -> Run:
    """Run `mlstack version ...` in the project."""
    return lambda *words: run_in(project)(sys.executable, "-m", "mlstack", "version", *words)


@pytest.fixture
def answer(version: Run) -> Callable[..., dict[str, Any]]:
    """Run `mlstack version ... --json`; give the object it prints."""
    return lambda *words: json.loads(version(*words, "--json").stdout)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first `snapshotted` project is kept for the tests after it."""
    return tmp_path_factory.mktemp("shelf") / "snapshotted"


@pytest.fixture
def snapshotted(project: Path, version: Run, shelf: Path) -> Path:
    if shelf.is_dir():
        shutil.rmtree(project)
        shutil.copytree(shelf, project)
        return project
    done = version("snapshot", "-m", "first data")
    assert done.returncode == 0, done.stderr
    shutil.copytree(project, shelf)
    return project


@pytest.fixture
def dvc_status(project: Path) -> Callable[[], str]:
    """Ask stock DVC whether everything is as it should be."""
    return lambda: run_in(project)(sys.executable, "-m", "dvc", "status").stdout
