"""`python -m mlstack.serve.worker.prove PACKAGE SECONDS`: open a package, and die of it if need be.

Nothing is served from here: the process ends when the graph has answered its golden examples, and
zeros in calls of one row and of more, as for a server that opens it. It gives way to one that
answers meanwhile.
"""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from mlstack.launch import limits
from mlstack.launch.worker import report
from mlstack.records.base import Record
from mlstack.records.package import MODEL
from mlstack.records.server import BatchingSpec
from mlstack.serve.results import Proving
from mlstack.serve.worker.model import load, load_bare, package_of

NICE = 10
ROW = BatchingSpec(max_size=1)


def prove(path: Path, limit_s: int) -> Iterator[Record]:
    """Open a package as the server would; say who does, and nothing more when all is well.

    Raises:
        DataError: it is not whole or not safe to open.
        GateError: a golden example is answered otherwise than when it was packed.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it in the middle of a call, too
    os.nice(NICE)
    yield Proving(pid=os.getpid())
    package = package_of(path)
    graph = path if package is None else package / MODEL
    limits.limit(graph.stat().st_size if graph.is_file() else 0, limit_s)
    if package is None:
        model = load_bare(graph, graph.stem, "cpu", ROW)
    else:
        model = load(package, package.parent.name, "cpu", ROW)
    if (runner := model.runner).zeros(2) is not None:  # else no more is timed
        limits.call_growing(lambda rows: runner.run(runner.zeros(rows) or []))


if __name__ == "__main__":
    sys.exit(report(prove(Path(sys.argv[1]), int(sys.argv[2])), sys.stdout.buffer))
