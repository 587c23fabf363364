"""A digits project whose data stock DVC keeps, and commands run as a user runs them."""

import json
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
def version(project: Path) -> Run:
    """Run `mlstack version ...` in the project."""
    return lambda *words: run_in(project)(sys.executable, "-m", "mlstack", "version", *words)


@pytest.fixture
def answer(version: Run) -> Callable[..., dict[str, Any]]:
    """Run `mlstack version ... --json`; give the object it prints."""
    return lambda *words: json.loads(version(*words, "--json").stdout)


@pytest.fixture
def snapshotted(project: Path, version: Run) -> Path:
    done = version("snapshot", "-m", "first data")
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture
def dvc_status(project: Path) -> Callable[[], str]:
    """Ask stock DVC whether everything is as it should be."""
    return lambda: run_in(project)(sys.executable, "-m", "dvc", "status").stdout
