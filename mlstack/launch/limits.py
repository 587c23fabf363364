"""Limits of a process that opens a graph which may be anybody's, and may die of it."""

import resource
import signal

BASE_BYTES = 8 << 30
TIMES = 20  # of the graph's own size


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
