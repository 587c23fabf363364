"""A partly labeled project, and servers that end with the test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from label_server import LABELED, Server, start

from mlstack.records import dataset


@pytest.fixture
def half(project: Path) -> Path:
    """A digits project of 300 images of which the first 20 are labeled."""
    file = project / "data" / "digits" / dataset.LABELS
    dataset.write_labels(file, dataset.read_labels(file).slice(0, LABELED))
    return project


@pytest.fixture
def serve(half: Path) -> Iterator[Callable[..., Server]]:
    """Start servers that end with the test."""
    servers: list[Server] = []

    def begin(*arguments: str) -> Server:
        servers.append(start(half, *arguments))
        return servers[-1]

    yield begin
    for server in servers:
        if server.process.returncode is None:
            server.stop()
