"""What the process with torch can do without: much of garbage collection, and scipy.signal.

With a slow end they were a third of its CPU time, and nothing that it writes depends on them.
"""

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


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
