"""`python -m mlstack.export.worker.build REQUEST`: the one process of `export` that has torch."""

import importlib
from collections.abc import Iterator

from mlstack.export.handover import BuildRequest, Said
from mlstack.export.worker import lean
from mlstack.export.worker.channel import answer


def build(request: BuildRequest) -> Iterator[Said]:
    """Load torch and what comes with it, leanly, then build the graph."""
    with lean.loading():
        construction = importlib.import_module("mlstack.export.worker.construction")
    yield from construction.build(request)


if __name__ == "__main__":
    answer(BuildRequest, build)
