"""Talk to the front process: requests from a file, records to what was stdout."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from mlstack.errors import MachineError
from mlstack.launch.worker import report
from mlstack.records.base import Record, read

Request = TypeVar("Request", bound=Record)


def answer(kind: type[Request], work: Callable[[Request], Iterator[Record]]) -> int:
    """Read the request that the command line names, work on it, and say what `work` yields.

    What the user's own code prints goes to stderr, hence to the log: stdout is the channel.
    """
    with os.fdopen(os.dup(1), "wb") as channel:
        os.dup2(2, 1)
        return report(_work(kind, work), channel)


def _work(kind: type[Request], work: Callable[[Request], Iterator[Record]]) -> Iterator[Record]:
    try:
        yield from work(read(Path(sys.argv[1]), kind))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise MachineError("the disk is full", hint="free some space") from error
