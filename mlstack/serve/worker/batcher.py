"""Share calls of the model: whatever is queued when it is free runs next, without waiting.

A fixed wait for more requests costs its full length when there are few and buys nothing when
there are many: then the queue fills while the batch before is running.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from mlstack.serve.worker.answers import Refused, busy
from mlstack.serve.worker.buffers import Arrays, Buffers

Run = Callable[[Arrays], Arrays]
# Is told of each call its rows, its seconds, and how many seconds each of its requests has waited.
OnBatch = Callable[[int, float, list[float]], None]

LEARNING = 0.1  # weight of the newest call in what a row is expected to take
CAUTION = 1.5  # times the usual call, for one that would end too late
PROMISED = 0.8  # of the allowed time may be spent in the queue


@dataclass(frozen=True)
class Plan:
    """The limits of batching for one loaded model."""

    max_rows: int
    max_queue: int
    delay_s: float = 0.0
    deadline_s: float = 0.0  # longest time from question to answer; 0 waits for ever
    runners: int = 1  # calls at the same time
    inline_rows: int = 0  # batches up to this size are cheaper to run than to hand to a thread
    buckets: tuple[int, ...] = ()  # sizes that batches are padded to; empty pads nothing


@dataclass(slots=True)
class Job:
    """One request: its rows may run in several batches and come back together."""

    arrays: Arrays
    rows: int
    is_gone: Callable[[], bool]
    done: "asyncio.Future[Arrays]"
    asked: float = field(default_factory=time.perf_counter)
    deadline: float = math.inf  # of time.perf_counter(); not run after it
    spare_s: float = math.inf  # half of the allowed time
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
    """The queue of one loaded model. Everything but the calls happens in the event loop.

    Nobody closes it: what was sent here before a change of the model is answered here, and its
    threads end when the last request lets go of it.
    """

    def __init__(
        self,
        run: Run,
        plan: Plan,
        on_batch: OnBatch,
        run_alone: Run | None = None,
        buffers: Buffers | None = None,
    ) -> None:
        """Queue for `run`, called by `plan.runners` threads at once.

        Args:
            run: the model.
            plan: the limits.
            on_batch: is told of each call.
            run_alone: the model with all cores for one call, for when there is no other.
            buffers: what batches are gathered into; without them, into new memory.
        """
        self._run = run
        self._run_alone = run_alone or run
        self._on_batch = on_batch
        self._buffers = buffers
        self._plan = plan
        self._queue: deque[Part] = deque()
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(plan.runners, "runner")
        self._running = 0  # calls that threads are at
        self._is_scheduled = False
        self._waiting: asyncio.TimerHandle | None = None  # for more rows, see `Plan.delay_s`
        self._row_s = 0.0  # what a row takes, all runners together
        self._call_s = 0.0  # what a call takes
        self.queued_rows = 0

    def submit(
        self, arrays: Arrays, rows: int, is_gone: Callable[[], bool], timeout_s: float = math.inf
    ) -> Job:
        """Queue a request; await its `done` for one array an output.

        Raises:
            Refused: 429, the queue is full, or too long for an answer in time.
        """
        timeout_s = min(timeout_s, self._plan.deadline_s or math.inf)
        self.admit(rows, timeout_s)
        job = Job(arrays, rows, is_gone, self._loop.create_future())
        if timeout_s < math.inf:
            job.deadline = job.asked + timeout_s
            job.spare_s = timeout_s / 2
        if rows <= self._plan.max_rows:
            self._queue.append(Part(job, 0, arrays, rows))
        else:
            self._queue.extend(self._parted(job))
        job.missing = max(1, -(-rows // self._plan.max_rows))
        job.outputs = [None] * job.missing
        self.queued_rows += rows
        self._schedule()
        return job

    @property
    def now_rows(self) -> int:
        """Tell how many rows `run_now` takes; 0 where calls need a thread, or wait for more."""
        plan = self._plan
        return 0 if plan.delay_s or plan.buckets else min(plan.inline_rows, plan.max_rows)

    def run_now(self, arrays: Arrays, asked: list[float]) -> Arrays | None:
        """Run rows, one for each moment of `asked`, at once; None where they must be submitted.

        That is: others wait or run, their time is nearly over, or the model cannot answer them.
        """
        rows, started = len(asked), time.perf_counter()
        allowed_s = self._plan.deadline_s or math.inf
        if self._queue or self._running or started - min(asked) > allowed_s / 2:
            return None
        try:
            outputs = (self._run_alone if rows <= self._plan.runners else self._run)(arrays)
        except Exception:  # whose rows are at fault is found, and said, by `submit`
            return None
        if not_by_row(outputs, rows) is not None:
            return None
        took_s = time.perf_counter() - started
        self._row_s += LEARNING * (took_s / rows - self._row_s)
        self._on_batch(rows, took_s, [started - one for one in asked])
        return outputs

    def _parted(self, job: Job) -> Iterator[Part]:
        for index, start in enumerate(range(0, job.rows, self._plan.max_rows)):
            piece = [array[start : start + self._plan.max_rows] for array in job.arrays]
            yield Part(job, index, piece, len(piece[0]))

    def admit(self, rows: int, timeout_s: float = math.inf) -> None:
        """Refuse what cannot be answered in time: at once, so that its sender can go elsewhere.

        Raises:
            Refused: 429 with the seconds after which it is worth to ask again.
        """
        timeout_s = min(timeout_s, self._plan.deadline_s or math.inf)
        after = self.queued_rows + rows
        wait_s = after * self._row_s
        if after > self._plan.max_queue:
            problem = f"the queue is full ({self.queued_rows} rows)"
        elif self.queued_rows and wait_s > PROMISED * timeout_s:
            problem = f"an answer would take {wait_s:.1f} s; {timeout_s:g} s are allowed"
        else:
            return
        raise busy(429, problem, seconds=math.ceil(wait_s) or 1)

    def _schedule(self) -> None:
        is_full = self.queued_rows >= self._plan.max_rows
        if self._waiting is not None and is_full:
            self._waiting.cancel()
            self._waiting, self._is_scheduled = None, False
        if self._is_scheduled or self._running >= self._plan.runners:
            return
        self._is_scheduled = True
        if self._plan.delay_s and not is_full:
            self._waiting = self._loop.call_later(self._plan.delay_s, self._next)
        else:
            # after everything that arrived in this turn of the loop has been queued
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._waiting, self._is_scheduled = None, False
        while self._queue and self._running < self._plan.runners:
            free = self._plan.runners - self._running
            # as many rows as runners end sooner one after the other on all cores
            is_alone = not self._running and self.queued_rows <= self._plan.runners
            share = self.queued_rows if is_alone else math.ceil(self.queued_rows / free)
            parts, rows = self._take(min(self._plan.max_rows, share))
            if not parts:
                return
            self._start(parts, rows, self._run_alone if is_alone else self._run)
            if rows <= self._plan.inline_rows:
                return  # what came meanwhile is read first

    def _start(self, parts: list[Part], rows: int, run: Run) -> None:
        arrays, kept = self._gather(parts, rows)
        started = time.perf_counter()
        if rows > self._plan.inline_rows:
            self._running += 1
            running = self._loop.run_in_executor(self._threads, run, arrays)
            if (buffers := self._buffers) is not None and kept:
                running.add_done_callback(lambda _: buffers.put_back(kept))
            running.add_done_callback(lambda ran: self._returned(parts, rows, started, ran))
            return
        ran: asyncio.Future[Arrays] = self._loop.create_future()
        try:
            ran.set_result(run(arrays))
        except Exception as error:  # it belongs to the requests in this batch, not to the loop
            ran.set_exception(error)
        took_s = time.perf_counter() - started
        self._tell(parts, rows, started, took_s)
        self._ran(parts, rows, took_s, ran)

    def _returned(
        self, parts: list[Part], rows: int, started: float, ran: "asyncio.Future[Arrays]"
    ) -> None:
        took_s = time.perf_counter() - started
        self._tell(parts, rows, started, took_s)
        self._call_s += LEARNING * (took_s - self._call_s)
        seconds = took_s / self._running
        self._running -= 1
        self._ran(parts, rows, seconds, ran)

    def _tell(self, parts: list[Part], rows: int, started: float, took_s: float) -> None:
        self._on_batch(rows, took_s, [started - part.job.asked for part in parts])

    def _take(self, most: int) -> tuple[list[Part], int]:
        """Take the oldest parts, `most` rows of them; drop those nobody waits for."""
        parts: list[Part] = []
        rows = 0
        now = time.perf_counter()
        while self._queue:
            part = self._queue[0]
            if _is_over(part.job, now, CAUTION * self._call_s):
                self._queue.popleft()
                self.queued_rows -= part.rows
                continue
            if parts and not (rows + part.rows <= most and _alike(parts[0], part)):
                break
            self._queue.popleft()
            self.queued_rows -= part.rows
            parts.append(part)
            rows += part.rows
        return parts, rows

    def _size(self, rows: int) -> int:
        """Tell with how many rows the model is called for so many."""
        return next((bucket for bucket in self._plan.buckets if bucket >= rows), rows)

    def _gather(self, parts: list[Part], rows: int) -> tuple[Arrays, Arrays]:
        """Stack the parts, and fill up with zeros; give the buffers that were used for it, too."""
        size = self._size(rows)
        if len(parts) == 1 and size == rows:
            return parts[0].arrays, []
        columns: list[Arrays] = [
            list(column) for column in zip(*(p.arrays for p in parts), strict=True)
        ]
        if size > rows:
            for column in columns:
                column.append(np.zeros((size - rows, *column[0].shape[1:]), column[0].dtype))
        if self._buffers is None:
            return [np.concatenate(column) for column in columns], []
        kept = self._buffers.take()
        pairs = zip(columns, kept, strict=True)
        return [np.concatenate(column, out=buffer[:size]) for column, buffer in pairs], kept

    def _ran(
        self, parts: list[Part], rows: int, seconds: float, ran: "asyncio.Future[Arrays]"
    ) -> None:
        """Give each part its rows; `seconds` is the share of time that the call took."""
        self._row_s += LEARNING * (seconds / rows - self._row_s)
        if self._queue:
            self._schedule()
        error = ran.exception() or not_by_row(ran.result(), self._size(rows))
        if error is not None:
            self._failed(parts, error)
            return
        start = 0
        for part in parts:
            stop = start + part.rows
            self._deliver(part, [output[start:stop] for output in ran.result()], rows)
            start = stop

    def _failed(self, parts: list[Part], error: BaseException) -> None:
        """Call the halves of what failed together: nobody pays for what another one has sent."""
        if len(parts) > 1 and not isinstance(error, Refused):
            half = len(parts) // 2
            for some in (parts[:half], parts[half:]):
                self._start(some, sum(part.rows for part in some), self._run)
            return
        for part in parts:
            if not part.job.done.done():
                part.job.done.set_exception(error)

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


def not_by_row(outputs: Arrays, rows: int) -> ValueError | None:
    """Tell whether an output does not hold a row for each row that went in."""
    for output in outputs:
        if output.shape[:1] != (rows,):
            shape = list(output.shape)
            return ValueError(
                f"the model answers with a tensor of shape {shape} for a call of {rows} rows"
            )
    return None


def _is_over(job: Job, now: float, call_s: float) -> bool:
    """Tell whether a job need not run: answered, without a client, or too late (504).

    It is too late when a call would end too late; but who has just come is always run, or a
    model that is slower than the time allowed would never show that it has become faster.
    """
    if job.done.done():
        return True
    if job.is_gone():
        job.done.cancel()
        return True
    if job.deadline - now < min(call_s, job.spare_s):
        problem = "the time was over before the model was free (`serve.batching.deadline_ms`)"
        job.done.set_exception(Refused(504, problem))
        return True
    return False


def _alike(one: Part, other: Part) -> bool:
    """Tell whether two parts can be stacked: sizes other than the first may be free."""
    return all(a.shape[1:] == b.shape[1:] for a, b in zip(one.arrays, other.arrays, strict=True))
