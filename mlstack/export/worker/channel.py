"""Talk to the front process: requests from a file, records to what was stdout; then end at once."""

import atexit
import errno
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

from mlstack.errors import MachineError
from mlstack.launch.worker import report
from mlstack.records.base import Record, read

Request = TypeVar("Request", bound=Record)

# New objects until the collector looks at them, and how often at older ones. Python's 700 made
# 1,600 searches of one export, which found next to nothing.
THRESHOLDS = (10_000, 50, 50)


def answer(kind: type[Request], work: Callable[[Request], Iterator[Record]]) -> NoReturn:
    """Read the request that the command line names, work on it, say what `work` yields, and end.

    What the user's own code prints goes to stderr, hence to the log: stdout is the channel.
    """
    gc.set_threshold(*THRESHOLDS)
    with os.fdopen(os.dup(1), "wb") as channel:
        os.dup2(2, 1)
        code = report(_work(kind, work), channel)
    leave(code)


def _work(kind: type[Request], work: Callable[[Request], Iterator[Record]]) -> Iterator[Record]:
    try:
        yield from work(read(Path(sys.argv[1]), kind))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise MachineError("the disk is full", hint="free some space") from error


def leave(code: int) -> NoReturn:
    """End the process at once: taking modules apart one by one takes two seconds of CPU with torch.

    What was registered for the end is still run, and what was printed is written.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
