"""Share calls of the model: whatever is queued when it is free runs next, without waiting.

A fixed wait for more requests costs its full length when there are few and buys nothing when
there are many: then the queue fills while the batch before is running.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from mlstack.serve.worker.answers import busy

Arrays = list[np.ndarray]


@dataclass(frozen=True)
class Plan:
    """The limits of batching for one loaded model."""

    max_rows: int
    max_queue: int
    delay_s: float = 0.0
    inline_rows: int = 0  # batches up to this size are cheaper to run than to hand to a thread
    buckets: tuple[int, ...] = ()  # sizes that batches are padded to; empty pads nothing


@dataclass(slots=True)
class Job:
    """One request: its rows may run in several batches and come back together."""

    arrays: Arrays
    rows: int
    is_gone: Callable[[], bool]
    done: "asyncio.Future[Arrays]"
    outputs: list[Arrays | None] = field(default_factory=list)
    missing: int = 0
    batch: int = 0  # rows of the largest call that answered it


@dataclass(slots=True)
class Part:
    """The rows of a job that run in one batch."""

    job: Job
    index: int
    arrays: Arrays
    rows: int


class Batcher:
    """The queue of one loaded model. Everything but `run` happens in the event loop."""

    def __init__(
        self, run: Callable[[Arrays], Arrays], plan: Plan, on_batch: Callable[[int], None]
    ) -> None:
        self._run = run
        self._on_batch = on_batch  # told the rows of each call
        self._plan = plan
        self._queue: deque[Part] = deque()
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "runner")
        self._is_busy = False
        self._is_scheduled = False
        self.queued_rows = 0

    def submit(self, arrays: Arrays, rows: int, is_gone: Callable[[], bool]) -> Job:
        """Queue a request; await its `done` for one array an output.

        Raises:
            Refused: 429, the queue is full.
        """
        if self.queued_rows + rows > self._plan.max_queue:
            raise busy(429, f"the queue is full ({self.queued_rows} rows)")
        job = Job(arrays, rows, is_gone, self._loop.create_future())
        for index, start in enumerate(range(0, rows, self._plan.max_rows)):
            size = min(self._plan.max_rows, rows - start)
            piece = arrays if size == rows else [a[start : start + size] for a in arrays]
            self._queue.append(Part(job, index, piece, size))
            job.outputs.append(None)
        job.missing = len(job.outputs)
        self.queued_rows += rows
        self._schedule()
        return job

    def close(self) -> None:
        """Let the thread go once its batch is done."""
        self._thread.shutdown(wait=False)

    def _schedule(self) -> None:
        if self._is_scheduled or self._is_busy:
            return
        self._is_scheduled = True
        if self._plan.delay_s and self.queued_rows < self._plan.max_rows:
            self._loop.call_later(self._plan.delay_s, self._next)
        else:
            # after everything that arrived in this turn of the loop has been queued
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._is_scheduled = False
        parts, rows = self._take()
        if not parts:
            return
        arrays = self._gather(parts, rows)
        if rows > self._plan.inline_rows:
            self._is_busy = True
            running = self._loop.run_in_executor(self._thread, self._run, arrays)
            running.add_done_callback(lambda ran: self._ran(parts, rows, ran))
            return
        ran: asyncio.Future[Arrays] = self._loop.create_future()
        try:
            ran.set_result(self._run(arrays))
        except Exception as error:  # it belongs to the requests in this batch, not to the loop
            ran.set_exception(error)
        self._ran(parts, rows, ran)

    def _take(self) -> tuple[list[Part], int]:
        """Take the oldest parts that fit into one call; drop those nobody waits for."""
        parts: list[Part] = []
        rows = 0
        while self._queue:
            part = self._queue[0]
            if part.job.done.done() or part.job.is_gone():
                self._queue.popleft()
                self.queued_rows -= part.rows
                part.job.done.cancel()
                continue
            if parts and not (rows + part.rows <= self._plan.max_rows and _alike(parts[0], part)):
                break
            self._queue.popleft()
            self.queued_rows -= part.rows
            parts.append(part)
            rows += part.rows
        return parts, rows

    def _gather(self, parts: list[Part], rows: int) -> Arrays:
        size = next((bucket for bucket in self._plan.buckets if bucket >= rows), rows)
        if len(parts) == 1 and size == rows:
            return parts[0].arrays
        columns: list[Arrays] = [
            list(column) for column in zip(*(p.arrays for p in parts), strict=True)
        ]
        if size > rows:
            for column in columns:
                column.append(np.zeros((size - rows, *column[0].shape[1:]), column[0].dtype))
        return [np.concatenate(column) for column in columns]

    def _ran(self, parts: list[Part], rows: int, ran: "asyncio.Future[Arrays]") -> None:
        self._is_busy = False
        self._on_batch(rows)
        if self._queue:
            self._schedule()
        error = ran.exception()
        if error is not None:
            for part in parts:
                if not part.job.done.done():
                    part.job.done.set_exception(error)
            return
        start = 0
        for part in parts:
            stop = start + part.rows
            self._deliver(part, [output[start:stop] for output in ran.result()], rows)
            start = stop

    def _deliver(self, part: Part, outputs: Arrays, rows: int) -> None:
        job = part.job
        job.outputs[part.index] = outputs
        job.missing -= 1
        job.batch = max(job.batch, rows)
        if job.missing or job.done.done():
            return
        if len(job.outputs) == 1:
            job.done.set_result(outputs)
            return
        whole = [piece for piece in job.outputs if piece is not None]
        job.done.set_result([np.concatenate(column) for column in zip(*whole, strict=True)])


def _alike(one: Part, other: Part) -> bool:
    """Tell whether two parts can be stacked: sizes other than the first may be free."""
    return all(a.shape[1:] == b.shape[1:] for a, b in zip(one.arrays, other.arrays, strict=True))
