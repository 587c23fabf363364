"""What the tests share: the command line, and the newest package."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def mlstack(*arguments: str) -> tuple[int, dict]:
    """Run a command with --json; give its exit code and what it said."""
    command = [sys.executable, "-m", "mlstack", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="session")
def package() -> Path:
    """Give the folder of the newest package."""
    packages = [path.parent.parent for path in ROOT.glob("models/*/*/mlstack/manifest.json")]
    assert packages, "there is no package yet; type `mlstack train` and `mlstack export`"
    return max(packages, key=lambda path: int(path.name))
