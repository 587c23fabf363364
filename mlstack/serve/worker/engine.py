"""How a graph is run on this machine: batch sizes, threads and calls at once, found by timing."""

import math
import os
import queue
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from mlstack.errors import DataError, MachineError
from mlstack.records.server import BatchingSpec
from mlstack.serve.worker import cuda, tensorrt
from mlstack.serve.worker.batcher import Plan, Run, not_by_row
from mlstack.serve.worker.buffers import Arrays, Buffers
from mlstack.serve.worker.runner import Runner
from mlstack.serve.worker.said import first_line, log

INLINE_S = 200e-6  # handing a batch to a thread and back costs about half of this
SLOW_S = 0.25  # larger batches are not tried once one takes this long
SMALL_BYTES = 4 << 20
SHORT_S = 1e-3
REPEATS = 3  # the fastest counts: the machine may be doing something else
ENOUGH_S = 0.05  # a call that takes this long is timed once
NEARLY = 0.97  # of the best throughput, for a smaller batch
WORTH = 0.95  # times the throughput of one call on all cores, for calls side by side
TWICE_BYTES = 64 << 20  # a graph up to this size is opened twice
BY_ROW = "export it so that the first dimension of all its inputs and outputs is the batch's"
SIDE_SIZES = (8, 16, 32)


class Pool:
    """The same graph on several GPUs: a call takes one that is free."""

    def __init__(self, runners: list[Runner]) -> None:
        self._free: queue.SimpleQueue[Runner] = queue.SimpleQueue()
        for runner in runners:
            self._free.put(runner)

    def run(self, arrays: Arrays) -> Arrays:
        """Run on whichever has waited longest; called by as many threads as there are GPUs."""
        runner = self._free.get()
        try:
            return runner.run(arrays)
        finally:
            self._free.put(runner)


@dataclass(frozen=True)
class Gpus:
    """The GPUs that share the requests, where a graph runs on GPUs."""

    count: int = 1
    engines: Path | None = None  # where TensorRT keeps what it builds; None leaves it out


ONE = Gpus()
# GPU -> options of TensorRT on it; None leaves it out
Options = Callable[[int], dict[str, Any] | None]


@dataclass
class Engine:
    """A graph that was opened and timed."""

    runner: Runner  # all cores for a call, or the device
    plan: Plan
    side: Runner | None = None  # one core for a call; `plan.runners` of them at once
    pool: Pool | None = None  # of several GPUs, `runner` among them
    timings: dict[int, float] = field(default_factory=dict)  # rows -> seconds of one call
    gpus: Gpus = ONE  # that it was opened for
    buffers: Buffers | None = None  # of a GPU: what batches are gathered into

    @property
    def run(self) -> Run:
        """Give the call that several threads make at once."""
        return (self.pool or self.side or self.runner).run

    @property
    def run_alone(self) -> Run:
        """Give the call that is made when there is no other."""
        return (self.pool or self.runner).run

    def run_all(self, arrays: Arrays) -> Arrays:
        """Answer any number of rows, in calls of as many as a batch may have."""
        most = self.plan.max_rows
        pieces = [
            self.runner.run([array[start : start + most] for array in arrays])
            for start in range(0, len(arrays[0]), most)
        ]
        if len(pieces) == 1:
            return pieces[0]
        return [np.concatenate(column) for column in zip(*pieces, strict=True)]


def open_engine(graph: Path, device: str, batching: BatchingSpec, gpus: Gpus = ONE) -> Engine:
    """Open a graph, and choose batch sizes and threads.

    Args:
        graph: an .onnx file.
        device: auto, cpu or gpu.
        batching: how requests share a call.
        gpus: that share the requests where it runs on GPUs.

    Raises:
        DataError: the graph cannot be run.
        MachineError: the device or TensorRT cannot be used, or there are fewer GPUs.
    """
    engine = _open_engine(graph, device, batching, gpus, lambda gpu: None)
    if gpus.engines is None or device == "cpu":
        return engine
    tensorrt.refuse_absent(on_gpu=engine.runner.on_gpu)
    try:
        return _with_tensorrt(engine, batching)
    except Exception as error:  # the runtime's errors have no base class of their own
        log.warning("TensorRT is not used, CUDA is: %s", first_line(error.__cause__ or error))
    return replace(engine, gpus=replace(gpus, engines=None))


def _with_tensorrt(plain: Engine, batching: BatchingSpec) -> Engine:
    """Open the graph of an engine again, on each of its GPUs with TensorRT before CUDA.

    Raises:
        Exception: an engine of it cannot be built, or not run.
    """
    graph, gpus = plain.runner.model, plain.gpus
    largest = 1 if plain.runner.is_single else batching.max_size
    assert gpus.engines is not None
    folder = gpus.engines
    engine = _open_engine(
        graph,
        "gpu",
        batching,
        gpus,
        lambda gpu: tensorrt.options(plain.runner, largest, folder, gpu),
    )
    if engine.runner.provider != cuda.TENSORRT:
        raise DataError(f"it runs no part of `{graph}`", hint="set `serve.tensorrt: false`")
    return engine


def _open_engine(
    graph: Path, device: str, batching: BatchingSpec, gpus: Gpus, options: Options
) -> Engine:
    runner, timings = _open(graph, device, batching.max_size, options)
    if runner.is_single:
        batching = structs.replace(batching, max_size=1)
    engine = Engine(runner, _plan(runner, timings, batching), timings=timings, gpus=gpus)
    if engine.plan.buckets:
        most = engine.plan.max_rows  # which may be more than were timed
        engine.buffers = Buffers(lambda: _page_locked(runner, most))
    for rows in set(timings) - set(engine.plan.buckets):
        runner.unbind(rows)  # sizes that are not run
    if runner.on_gpu and gpus.count > 1:
        return _on_gpus(engine, options)
    cores = len(os.sched_getaffinity(0))
    is_slow = timings.get(1, 0.0) >= SHORT_S
    can_part = not runner.on_gpu and cores > 1 and graph.stat().st_size <= TWICE_BYTES
    if is_slow and can_part:
        engine = _side_by_side(engine, graph, cores, batching)
    for session in (engine.runner, engine.side):
        if session is not None and is_slow:
            session.shrink()
    return engine


def _on_gpus(engine: Engine, options: Options) -> Engine:
    """Open the graph on further GPUs, and warm each for every size that is run."""
    graph, gpus = engine.runner.model, engine.gpus.count
    if (there := cuda.count_gpus()) < gpus:
        raise MachineError(
            f"{gpus} GPUs were asked for (`serve.gpus`), {there} are visible",
            hint="see what `mlstack doctor` says, or ask for fewer",
        )
    others = [Runner(graph, "gpu", gpu=n, tensorrt=options(n)) for n in range(1, gpus)]
    for other in others:
        measure(other, engine.plan.max_rows)
    pool = Pool([engine.runner, *others])
    return replace(engine, plan=replace(engine.plan, runners=gpus), pool=pool)


def _side_by_side(engine: Engine, graph: Path, cores: int, batching: BatchingSpec) -> Engine:
    """Give each call one core where that answers as many rows a second.

    The threads of one call wait for each other at every layer, and for whatever else a core does:
    parsing JSON halves what they reach together. Calls side by side wait for nothing.
    """
    side = Runner(graph, "cpu", threads=1)
    sizes = [rows for rows in SIDE_SIZES if rows <= batching.max_size] or [batching.max_size]
    timings: dict[int, float] = {}
    with ThreadPoolExecutor(cores) as threads:
        for rows in sizes if batching.adaptive else sizes[-1:]:
            arrays = side.zeros(rows)
            assert arrays is not None  # or nothing would have been timed before
            timings[rows] = _fastest(
                lambda: list(threads.map(side.run, [arrays] * cores))  # noqa: B023
            )
    best = _best_size(timings)
    alone = max(rows / seconds for rows, seconds in engine.timings.items())
    if cores * best / timings[best] < WORTH * alone:
        return engine
    largest = best if batching.adaptive else batching.max_size
    plan = replace(engine.plan, max_rows=largest, runners=cores)
    return replace(engine, side=side, plan=plan)


def _open(
    graph: Path, device: str, largest: int, options: Options
) -> tuple[Runner, dict[int, float]]:
    """Open and time a graph, with one thread if it is done before others have woken up."""
    is_small = graph.is_file() and graph.stat().st_size < SMALL_BYTES
    runner = Runner(graph, device, threads=1 if is_small else 0, tensorrt=options(0))
    _refuse_rowless(runner)
    timings = measure(runner, largest)
    if is_small and not runner.on_gpu and timings.get(1, SHORT_S) >= SHORT_S:
        runner = Runner(graph, device)
        timings = measure(runner, largest)
    return runner, timings


def _refuse_rowless(runner: Runner) -> None:
    for tensor in runner.inputs:
        if tensor.shape[:1] not in ([-1], [1]):
            raise DataError(
                f"`{runner.model}` cannot be served: its input `{tensor.name}` has the shape "
                f"{tensor.shape}, and rows of several requests do not fit into one call",
                hint=BY_ROW,
            )


def measure(runner: Runner, largest: int) -> dict[int, float]:
    """Time one call at 1, 2, 4 ... rows, which also warms the session for each size."""
    timings: dict[int, float] = {}
    rows = 1
    while rows <= largest:
        arrays = runner.zeros(rows)
        if arrays is None:
            break
        if rows == 1 and (problem := not_by_row(runner.run(arrays), rows)) is not None:
            raise DataError(f"`{runner.model}` cannot be served: {problem}", hint=BY_ROW)
        timings[rows] = _fastest(lambda: runner.run(arrays))  # noqa: B023  # called at once
        if runner.on_gpu:
            timings[rows] = min(timings[rows], bind_where_faster(runner, rows))
        if timings[rows] > SLOW_S:
            break
        rows = largest if rows < largest < 2 * rows else 2 * rows
    return timings


def bind_where_faster(runner: Runner, rows: int) -> float:
    """Keep buffers for calls of so many rows if they answer the same, and no slower.

    Rows of ones and of zeros take turns: what was not copied, or is another row's, shows.

    Returns:
        The seconds of a call with them; infinite where they are not kept.
    """
    arrays = _page_locked(runner, rows)
    for array in arrays:
        array[::2] = 1
    try:
        expected = runner.run(arrays)
        usual_s = _fastest(lambda: runner.run(arrays))
        if not runner.bind(rows):
            return math.inf
        seconds = _fastest(lambda: runner.run(arrays))
        if seconds <= usual_s and _are_equal(runner.run(arrays), expected):
            return seconds
    except Exception as error:  # the runtime's errors have no base class of their own
        log.warning("no buffers are kept for calls of %d rows: %s", rows, first_line(error))
    runner.unbind(rows)
    return math.inf


def _are_equal(some: Arrays, others: Arrays) -> bool:
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(some, others, strict=True))


def _page_locked(runner: Runner, rows: int) -> Arrays:
    zeros = runner.zeros(rows)
    assert zeros is not None  # or nothing would have been timed before
    library = cuda.runtime()
    return [cuda.page_locked([*array.shape], array.dtype, library) for array in zeros]


def _plan(runner: Runner, timings: dict[int, float], batching: BatchingSpec) -> Plan:
    """Choose the batch sizes from the timings."""
    limit = _best_size(timings) if batching.adaptive and timings else batching.max_size
    cheap = [rows for rows, seconds in timings.items() if seconds <= INLINE_S]
    # A GPU prepares itself anew for every shape it has not seen: only the timed sizes are run.
    buckets = tuple(rows for rows in timings if rows <= limit) if runner.on_gpu else ()
    return Plan(
        max_rows=limit,
        max_queue=batching.max_queue,
        delay_s=batching.max_delay_ms / 1000,
        deadline_s=batching.deadline_ms / 1000,
        inline_rows=0 if runner.on_gpu else max(cheap, default=0),
        buckets=buckets,
    )


def _fastest(call: Callable[[], object]) -> float:
    """Give the seconds of the fastest of a few calls; the first one warms the session."""
    call()
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
        if best > ENOUGH_S:
            break
    return best


def _best_size(timings: dict[int, float]) -> int:
    """Take the smallest size with nearly the best throughput.

    Not the one behind which a larger one gives little: of three small steps the first would do.
    """
    enough = NEARLY * max(rows / seconds for rows, seconds in timings.items())
    return min(rows for rows, seconds in timings.items() if rows / seconds >= enough)
