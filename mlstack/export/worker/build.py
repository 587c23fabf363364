"""`python -m mlstack.export.worker.build REQUEST`: the one process of `export` that has torch."""

import importlib
import traceback
from collections.abc import Iterator
from pathlib import Path

from mlstack.errors import MlstackError, StepError
from mlstack.export.handover import BuildRequest, Said
from mlstack.export.worker import lean
from mlstack.export.worker.channel import answer
from mlstack.launch.user_code import in_words, own_line


def build(request: BuildRequest) -> Iterator[Said]:
    """Load torch and what comes with it, leanly, then build the graph.

    Raises:
        StepError: the user's own code did; the traceback is in the log.
    """
    with lean.loading():
        construction = importlib.import_module("mlstack.export.worker.construction")
    try:
        yield from construction.build(request)
    except (Exception, SystemExit) as error:
        root = Path(request.root)
        if isinstance(error, MlstackError) or not own_line(error, root):
            raise
        traceback.print_exc()
        raise StepError(in_words(error, root)) from error


if __name__ == "__main__":
    answer(BuildRequest, build)
