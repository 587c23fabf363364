"""What the server's process need not hold or look at: spare blocks, pandas, what lives for ever."""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder

from mlstack import allocator

MAPPED_BYTES = 1 << 20
SPARE_BYTES = 16 << 20
# New objects until the collector looks at them, and how often at older ones. Rows that wait for the
# model and for the log passed Python's 700 a hundred times a second, and there is nothing to find:
# a request leaves no cycles.
THRESHOLDS = (50_000, 20, 100)


def map_large_blocks() -> None:
    """Let glibc map every block above 1 MB by itself, so that freeing it returns it at once.

    Left alone it takes the largest block that was ever freed, up to 32 MB, for the new threshold:
    the weights of a model that was replaced then lie between others, in the heap of the thread
    that loaded it, and every change leaves some of them there. 16 MB are kept for what the next
    requests need.
    """
    allocator.keep(spare_bytes=SPARE_BYTES, mapped_bytes=MAPPED_BYTES)


def collect_rarely() -> None:
    """Keep the collector off the modules, and let it look at the rest when there is much of it."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(*THRESHOLDS)


def give_back_memory() -> None:
    """Return freed memory to the system; glibc keeps what a model took to load and to time."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextlib.contextmanager
def without_pandas() -> Iterator[None]:
    """Let Arrow find no pandas, where it is installed; it looks once, at the first array.

    It would import all of it to tell whether it is given a Series: half a second and 50 MB of the
    server. Whoever imports pandas afterwards gets it.
    """
    hidden = _Hidden()
    sys.meta_path.insert(0, hidden)
    try:
        yield
    finally:
        sys.meta_path.remove(hidden)


class _Hidden(MetaPathFinder):
    def find_spec(self, name: str, *_: object) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("hidden from Arrow", name=name)
