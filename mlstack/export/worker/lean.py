"""What the process with torch can do without: garbage collection, scipy.signal, a slow end.

Together they were a third of its CPU time, and nothing that it writes depends on them.
"""

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NoReturn

# New objects until the collector looks at them, and how often at older ones. Python's 700 made
# 1,600 searches of one export, which found next to nothing.
THRESHOLDS = (10_000, 50, 50)


@contextmanager
def loading() -> Iterator[None]:
    """Import what stays until the process ends, and keep the collector off it from then on.

    pytorch-lightning is loaded here, for every run's network needs it.
    """
    gc.disable()
    try:
        _import_lightning()
        yield
    finally:
        gc.freeze()
        gc.set_threshold(*THRESHOLDS)
        gc.enable()


def _import_lightning() -> None:
    """Import pytorch-lightning without scipy.signal.

    torchmetrics loads that, a second of CPU, to give it a name that it had once. Shown one which
    has it, it leaves it alone; whoever imports scipy.signal afterwards gets the real one.
    """
    name = "scipy.signal"
    if name in sys.modules:
        importlib.import_module("pytorch_lightning")
        return
    shown = ModuleType(name)
    shown.hamming = None  # type: ignore[attr-defined]
    sys.modules[name] = shown
    try:
        importlib.import_module("pytorch_lightning")
    finally:
        del sys.modules[name]


def leave(code: int) -> NoReturn:
    """End the process at once: taking torch's modules apart one by one takes two seconds of CPU.

    What was registered for the end is still run, and what was printed is written.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
