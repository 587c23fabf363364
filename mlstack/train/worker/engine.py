"""What a rank runs, imported for two thirds of what that costs (2.4 instead of 3.7 CPU-seconds).

Nothing that an import makes is garbage, yet a fifth of the time goes into looking for some; and
what is there afterwards stays, so no later collection need look at it again (`gc.freeze`).
torchmetrics loads `scipy.signal`, half of scipy, for one alias that the package SRMRpy asks for: it
meets a stand-in, unless that package is installed. Who imports `scipy.signal` later gets the real
one.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType

SIGNAL = "scipy.signal"


@contextmanager
def _light() -> Iterator[None]:
    stands_in = SIGNAL not in sys.modules and find_spec("srmrpy") is None
    if stands_in:
        sys.modules[SIGNAL] = ModuleType(SIGNAL)
        vars(sys.modules[SIGNAL])["hamming"] = None  # the alias, as if it were there
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if stands_in:
            del sys.modules[SIGNAL]
    gc.freeze()


with _light():
    from mlstack.train.worker import job

__all__ = ["job"]
