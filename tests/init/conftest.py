"""Run `mlstack init` as a user whose git knows nobody."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., subprocess.CompletedProcess[str]]

NOBODY = os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def init(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlstack", "init", *arguments]
    return subprocess.run(
        command, cwd=folder, env=NOBODY, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="session")
def run_init() -> Run:
    return init


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Colour photos of 40 x 30 pixels, a folder per class."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            pixels = random.integers(0, 255, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.jpg")
    return tmp_path / "photos"
