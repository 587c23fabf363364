"""What every test may ask for."""

from collections.abc import Callable
from pathlib import Path

import pytest
from projects import make_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A digits project of 300 images that a test may change."""
    return make_project(tmp_path / "digits-demo")


@pytest.fixture(scope="session")
def project_maker() -> Callable[..., Path]:
    """Give `make_project` to fixtures that outlive one test."""
    return make_project
