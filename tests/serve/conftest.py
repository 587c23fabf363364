"""A project with two packages, and one server for the tests of a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import CONFIG, Server, end, make_package, start


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two packages, none live."""
    root = tmp_path_factory.mktemp("project")
    (root / "mlstack.yaml").write_text(CONFIG)
    make_package(root, number=1, seed=1)
    make_package(root, number=2, seed=2)
    return root


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    """A server of that project; it answers with package 2, the newest."""
    running = start(home)
    yield running
    end(running)
