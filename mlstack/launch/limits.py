"""Limits of a process that opens a graph which may be anybody's, and may die of it."""

import resource
import signal
import time
from collections.abc import Callable

BASE_BYTES = 8 << 30
TIMES = 20  # of the graph's own size
MOST_ROWS = 64
SLOW_S = 0.5


def limit(model_bytes: int, seconds: int, *, extra_bytes: int | None = 0) -> None:
    """End this process when it takes too long, or asks for far more memory than the graph needs.

    A file of 65 bytes can ask for 32 GiB, and a wrong conversion can hang or crash the runtime.

    Args:
        model_bytes: size of the graph.
        seconds: until the process is ended.
        extra_bytes: memory for other things than the graph; None for no limit, as CUDA needs
            (it maps more addresses than any limit would allow).
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    if extra_bytes is None:
        return
    wanted = bytes_for(model_bytes) + extra_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


def bytes_for(model_bytes: int) -> int:
    """Give the memory that a graph of a size may use."""
    return BASE_BYTES + TIMES * model_bytes


def call_growing(call: Callable[[int], object]) -> None:
    """Call a graph with 2, 4, 8 ... rows, as a server does that times what it has opened.

    Args:
        call: runs the graph on so many rows.
    """
    rows = 2
    while rows <= MOST_ROWS:
        started = time.perf_counter()
        call(rows)
        if time.perf_counter() - started > SLOW_S:  # a server does not try more either
            return
        rows *= 2
