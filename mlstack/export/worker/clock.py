"""Time single calls: in blocks, several of them taking turns."""

from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter

import numpy as np

from mlstack.records.variants import Times

ROUNDS = 3
BLOCK_S = 0.02  # longer ones give the same medians and 95th percentiles, as far apart
LEAST = 3  # calls of a block, however slow
MOST = 200
LOOKS = 5  # at sizes of which a small one seems to take longer than a large one
UNLIKELY = 1.5  # times as long
WARM = 3  # calls before a block; one where they are slow
WARM_S = 0.01


def race(
    calls: Mapping[str, Callable[[], object]], block_s: float = BLOCK_S
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


def by_size(
    call: Callable[[np.ndarray], object], inputs: np.ndarray, batches: tuple[int, ...]
) -> list[Times]:
    """Time calls of several sizes in turns, again while a small one seems to take longer.

    The threads of a busy machine wait for each other: then one row takes a thousand times as long
    as 32. What cannot be true after several looks is left out.

    Args:
        call: what answers a batch of rows.
        inputs: real rows.
        batches: numbers of rows, the smallest first.
    """
    best: dict[int, Times] = {}
    calls = {str(batch): partial(call, rows(inputs, batch)) for batch in batches}
    for _ in range(LOOKS):
        for name, taken in race(calls).items():
            found = times(int(name), taken)
            if found.batch not in best or found.p50_ms < best[found.batch].p50_ms:
                best[found.batch] = found
        true = [best[b] for b in batches if not _is_beaten(best[b], best)]
        if len(true) == len(batches):
            break
    return true


def _is_beaten(one: Times, others: dict[int, Times]) -> bool:
    """Tell whether a larger batch took clearly less time."""
    return any(
        other.batch > one.batch and one.p50_ms > UNLIKELY * other.p50_ms
        for other in others.values()
    )


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
