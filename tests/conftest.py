"""What every test may ask for."""

from pathlib import Path

import pytest
from projects import make_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A digits project of 300 images that a test may change."""
    return make_project(tmp_path / "digits-demo")
