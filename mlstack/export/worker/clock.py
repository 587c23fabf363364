"""Time single calls: in blocks, several of them taking turns."""

from collections.abc import Callable
from time import perf_counter

import numpy as np

from mlstack.records.variants import Times

ROUNDS = 3
BLOCK_S = 0.02  # longer ones give the same medians and 95th percentiles, as far apart
LEAST = 3  # calls of a block, however slow
MOST = 200
WARM = 3  # calls before a block; one where they are slow
WARM_S = 0.01


def race(
    calls: dict[str, Callable[[], object]], block_s: float = BLOCK_S
) -> dict[str, list[float]]:
    """Time several calls in turns, so that what else the machine does hits all of them.

    In blocks, not call by call: the threads of one runtime still spin when the next begins.

    Returns:
        Milliseconds of each call, by name.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            taken[name] += _block(call, block_s)
    return taken


def times(batch: int, taken: list[float]) -> Times:
    """Give the percentiles of calls."""
    p50, p95, p99 = (round(float(p), 4) for p in np.percentile(taken, [50, 95, 99]))
    return Times(batch=batch, p50_ms=p50, p95_ms=p95, p99_ms=p99)


def rows(inputs: np.ndarray, batch: int) -> np.ndarray:
    """Take a batch of real rows, repeated where there are too few."""
    chosen = np.resize(np.arange(len(inputs)), batch)
    return np.ascontiguousarray(inputs[chosen])


def _block(call: Callable[[], object], budget_s: float) -> list[float]:
    _warm(call)
    taken: list[float] = []
    until = perf_counter() + budget_s
    while len(taken) < LEAST or (len(taken) < MOST and perf_counter() < until):
        start = perf_counter()
        call()
        taken.append((perf_counter() - start) * 1000)
    return taken


def _warm(call: Callable[[], object]) -> None:
    """Call until threads are awake and caches full; a slow call needs no second one for that."""
    until = perf_counter() + WARM_S
    for _ in range(WARM):
        call()
        if perf_counter() > until:
            return
