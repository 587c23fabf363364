"""A shadow: a package that is asked what the live model has answered, and never answers.

It lives in one thread of its own, behind a bounded queue, and gives way: it begins nothing while
rows wait for the live model, its runtime's threads have the lowest claim on the cores, and what
its queue cannot hold is dropped and counted.
"""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from mlstack.serve.worker.answers import Refused
from mlstack.serve.worker.compare import Sample, agreeing
from mlstack.serve.worker.metrics import Metrics
from mlstack.serve.worker.model import Model
from mlstack.serve.worker.said import log

MAX_ROWS = 256
MAX_BYTES = 32 << 20
BATCH_ROWS = 32
GIVE_WAY_S = 0.002
NICE = 10  # 19 would let a thread that holds the interpreter's lock wait for a core too long
SAID_S = 10.0  # between two lines about failures


class Shadow:
    """One shadow; `close` ends its thread."""

    def __init__(
        self, number: int, load: Callable[[], Model], metrics: Metrics, is_busy: Callable[[], bool]
    ) -> None:
        self.number = number
        self.model: Model | None = None
        self.rows = 0
        self.agreed = 0
        self.failed = 0
        self.dropped = 0
        self._load = load
        self._metrics = metrics
        self._is_busy = is_busy
        self._queue: deque[Sample] = deque()
        self._queued_rows = 0
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._loaded = threading.Event()
        self._problem: Exception | None = None
        self._said = 0.0
        self._thread = threading.Thread(target=self._live, name="shadow", daemon=True)

    def open(self) -> None:
        """Load the package in the shadow's thread, and wait for it.

        Raises:
            MlstackError: it cannot be loaded.
        """
        self._thread.start()
        self._loaded.wait()
        if self._problem is not None:
            raise self._problem

    def offer(self, sample: Sample) -> None:
        """Ask it too, if there is room."""
        size = sample.size_bytes()
        with self._changed:
            is_full = (
                self._queued_rows + sample.rows > MAX_ROWS or self._queued_bytes + size > MAX_BYTES
            )
            if not is_full and not self._is_closed:
                self._queue.append(sample)
                self._queued_rows += sample.rows
                self._queued_bytes += size
                self._changed.notify()
                return
        self.dropped += sample.rows
        self._metrics.add("mlstack_shadow_dropped_total", self.number, sample.rows)

    def close(self) -> None:
        """End the thread after what it is at; what waits is not asked any more."""
        with self._changed:
            self._is_closed = True
            self._queue.clear()
            self._changed.notify()

    def _live(self) -> None:
        try:
            _claim_little()  # the runtime's threads, made while loading, inherit it
            self.model = self._load()
        except Exception as error:  # belongs to `open`, which raises it
            self._problem = error
            return
        finally:
            self._loaded.set()
        while samples := self._next():
            self._ask(self.model, samples)

    def _next(self) -> list[Sample]:
        """Wait for samples and take as many as make a batch; none when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_closed)
        while self._is_busy() and not self._is_closed:
            time.sleep(GIVE_WAY_S)
        taken: list[Sample] = []
        with self._changed:
            while self._queue and (
                not taken or sum(s.rows for s in taken) + self._queue[0].rows <= BATCH_ROWS
            ):
                sample = self._queue.popleft()
                self._queued_rows -= sample.rows
                self._queued_bytes -= sample.size_bytes()
                taken.append(sample)
        return taken

    def _ask(self, model: Model, samples: list[Sample]) -> None:
        started = time.perf_counter()
        for group in _alike(model, samples, self._fail):
            pieces = [inputs for _, inputs in group]
            try:
                stacked = [np.concatenate(column) for column in zip(*pieces, strict=True)]
                outputs = model.engine.run_all(stacked)
            except Exception as error:  # the runtime's errors have no base class of their own
                self._fail(sum(sample.rows for sample, _ in group), error)
                continue
            start = 0
            for sample, _ in group:
                part = [output[start : start + sample.rows] for output in outputs]
                self._count(sample, agreeing(sample, model, part))
                start += sample.rows
        self._metrics.shadow_durations.add(time.perf_counter() - started)

    def _count(self, sample: Sample, agree: np.ndarray) -> None:
        same = int(agree.sum())
        self.rows += sample.rows
        self.agreed += same
        self._metrics.add("mlstack_shadow_rows_total", self.number, sample.rows)
        self._metrics.add("mlstack_shadow_mismatch_total", self.number, sample.rows - same)

    def _fail(self, rows: int, error: Exception) -> None:
        self.failed += rows
        self._metrics.add("mlstack_shadow_failed_total", self.number, rows)
        if time.monotonic() - self._said > SAID_S:
            self._said = time.monotonic()
            first = (str(error).splitlines() or [type(error).__name__])[0][:300]
            log.warning("the shadow %d fails: %s", self.number, first, extra={"event": "shadow"})


Group = list[tuple[Sample, list[np.ndarray]]]


def _alike(
    model: Model, samples: list[Sample], fail: Callable[[int, Exception], None]
) -> list[Group]:
    """Read each sample for the model, and put those together that can be stacked."""
    groups: dict[tuple[tuple[int, ...], ...], Group] = {}
    for sample in samples:
        try:
            inputs = sample.inputs_for(model)
        except Refused as error:
            fail(sample.rows, error)
            continue
        groups.setdefault(tuple(a.shape[1:] for a in inputs), []).append((sample, inputs))
    return list(groups.values())


def _claim_little() -> None:
    """Let this thread, and those that it starts, wait for the others (Linux: of a thread alone)."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
