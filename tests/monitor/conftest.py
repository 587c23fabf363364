"""A project whose package 1 is live, and nothing logged yet."""

import shutil
from pathlib import Path

import pytest
from monitor_log import TEMPLATE, Watched, add_package


@pytest.fixture
def bare(tmp_path: Path) -> Watched:
    """A project without any package."""
    root = tmp_path / "demo"
    root.mkdir()
    shutil.copy(TEMPLATE / "mlstack.yaml", root)
    return Watched(root)


@pytest.fixture
def watched(bare: Watched) -> Watched:
    """A project whose package 1 is live, and nothing logged yet."""
    add_package(bare.root)
    return bare
