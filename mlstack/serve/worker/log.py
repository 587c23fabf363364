"""The request log: rows are buffered, streamed to a write-ahead file, and packed into Parquet.

A kill -9 loses at most what was not flushed yet: `serve.log.flush_ms`, and less at a high rate,
where so many rows as make the columns cheap are written at once. Everything here that
touches a disk or builds columns happens in two threads: one writes rows, and never waits for the
other, which packs full files and opens the next one. Predicting waits for neither.
"""

import asyncio
import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlstack.errors import MachineError
from mlstack.records.server import LogSpec
from mlstack.serve.worker.columns import Encoder, Entry
from mlstack.serve.worker.memory import give_back_memory
from mlstack.serve.worker.said import log
from mlstack.serve.worker.wal import Wal, compact_leftovers, delete_old

MAX_PENDING_ROWS = 200_000
MAX_PENDING_BYTES = 256 << 20
MANY_ROWS = 128  # are not kept waiting: making columns costs as much for one row as for fifty
MANY_BYTES = 512 << 10  # neither are these: larger blocks are new memory each time, see `memory`
ROTATE_S = 60.0
CLEAN_S = 3600.0
QUIET_S = 4.0  # without a full file


class RequestLog:
    """The log of one server. `start` before the socket opens, `close` after the last answer."""

    def __init__(self, folder: Path, model: str, spec: LogSpec) -> None:
        self._folder = folder
        self._model = model
        self._spec = spec
        self._encoder = self._encoder_of([])
        self._thread = ThreadPoolExecutor(1, "log")
        self._packer = ThreadPoolExecutor(1, "pack")
        self._wal: Wal | None = None
        self._next: Future[Wal] | None = None  # opened before it is needed: that syncs
        self._entries: list[Entry] = []
        self._waiting_rows = 0  # of these, those that are not being written yet
        self._waiting_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_writing = False
        self._pending_rows = 0
        self._pending_bytes = 0
        self._cleaned = 0.0
        self._packed = 0.0  # when a file was packed last; 0 where its memory has been given back
        self._is_failing = False
        self._has_left = True  # files that were not packed; `start`, too, may leave some
        self.lost_rows = 0
        self.written_rows = 0

    def start(self, features: list[str]) -> None:
        """Pack what a killed server left, open a file, and run the encoder once.

        What it loads and keeps then would otherwise make the first requests wait.
        """
        self._encoder = self._encoder_of(features)
        warm = Entry(
            "warm",
            "",
            0,
            0,
            "",
            200,
            count=1,
            probabilities=np.zeros((1, 1), np.float32),
            classes=["a"],
            inputs=[b""],
            pixels=np.zeros((1, 2, 2, 1), np.uint8),
        )
        self._encoder.batch([warm])
        compact_leftovers(self._folder)
        self._clean()
        self._wal = Wal(self._folder, self._model, self._encoder.stream)

    def add(self, entry: Entry) -> None:
        """Keep what is chosen of it; when the disk cannot follow, rows are lost and counted."""
        if self._spec.sample < 1:
            kept = self._sampled(entry)
            if kept is None:
                return
            entry = kept
        size = entry.size_bytes()
        if (
            self._pending_rows + entry.count > MAX_PENDING_ROWS
            or self._pending_bytes + size > MAX_PENDING_BYTES
        ):
            self.lost_rows += entry.count
            return
        if not (self._entries and self._entries[-1].takes(entry)):
            self._entries.append(entry)
        self._pending_rows += entry.count
        self._pending_bytes += size
        self._waiting_rows += entry.count
        self._waiting_bytes += size
        if not self._is_writing:
            self._flush_soon()

    def _sampled(self, entry: Entry) -> Entry | None:
        """Keep each request or not, also of those that were answered together."""
        share = self._spec.sample
        together = entry.together
        if together is None:
            return entry if random.random() < share else None
        places = [place for place in range(entry.count) if random.random() < share]
        if not places:
            return None
        return Entry.of(together.only(places), entry.version, entry.route, entry.classes or [])

    def tick(self) -> None:
        """Do the slow housekeeping; called now and then."""
        self._thread.submit(self._rotate_if_due)
        self._packer.submit(self._give_back_if_quiet)

    def close(self) -> None:
        """Write what is left and pack it."""
        if self._entries:
            self._thread.submit(self._write, self._entries)
            self._entries = []
        self._thread.submit(self._end).result()
        self._thread.shutdown()
        self._packer.shutdown()

    def _flush_soon(self) -> None:
        if self._waiting_rows >= MANY_ROWS or self._waiting_bytes >= MANY_BYTES:
            if self._timer is not None:
                self._timer.cancel()
            self._flush()
        elif self._timer is None:
            delay = self._spec.flush_ms / 1000
            self._timer = asyncio.get_running_loop().call_later(delay, self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._is_writing = True
        entries, self._entries = self._entries, []
        self._waiting_rows = self._waiting_bytes = 0
        loop = asyncio.get_running_loop()
        written = loop.run_in_executor(self._thread, self._write, entries)
        written.add_done_callback(lambda written: self._flushed(entries, written))

    def _flushed(self, entries: list[Entry], written: "asyncio.Future[None]") -> None:
        rows = sum(entry.count for entry in entries)
        if error := written.exception():  # a bug of ours, not of the disk: it must be seen
            self._fail(error, rows)
        self._pending_rows -= rows
        self._pending_bytes -= sum(entry.size_bytes() for entry in entries)
        self._is_writing = False
        if self._entries:
            self._flush_soon()

    def _write(self, entries: list[Entry]) -> None:
        try:
            batch = self._encoder.batch(entries)
            rows = sum(entry.count for entry in entries)
            if self._wal is None:
                self._wal = self._opened()
            self._wal.append(batch, rows)
            self.written_rows += rows
            self._is_failing = False
            if self._next is None:
                if self._wal.is_nearly_full():
                    self._next = self._packer.submit(self._open)
            elif self._next.done() and self._wal.is_full():  # a file may grow while that one waits
                self._rotate()
        except (OSError, pa.ArrowException, MachineError) as error:
            self._fail(error, sum(entry.count for entry in entries))

    def _fail(self, error: BaseException, rows: int) -> None:
        """Count what is lost, say so once, and begin a new file next time."""
        self.lost_rows += rows
        if self._wal is not None:
            self._wal.close()
            self._wal = None
            self._has_left = True
        if not self._is_failing:
            log.warning("the request log cannot be written: %s", error)
        self._is_failing = True

    def _rotate_if_due(self) -> None:
        if self._wal is not None and self._wal.rows and self._wal.age_s() > ROTATE_S:
            self._rotate()
        if time.monotonic() - self._cleaned > CLEAN_S:
            self._clean()

    def _rotate(self) -> None:
        if self._wal is None:
            return
        wal, self._wal = self._wal, None
        self._packer.submit(self._pack, wal)

    def _end(self) -> None:
        if self._wal is None:
            self._packer.submit(self._pack_left)
        self._rotate()
        if self._next is not None:
            try:
                self._wal = self._opened()
            except (OSError, MachineError) as error:  # nothing is lost: no row was for it
                log.warning("the request log has no next file: %s", error)
            self._rotate()

    def _open(self) -> Wal:
        return Wal(self._folder, self._model, self._encoder.stream)

    def _opened(self) -> Wal:
        """Give the file that waits, or open one."""
        waiting, self._next = self._next, None
        return waiting.result() if waiting is not None else self._open()

    def _pack(self, wal: Wal) -> None:
        """Turn a full file into Parquet; what fails here is tried again behind the next one."""
        try:
            wal.finish(self._folder)
            self._pack_left()
        except (OSError, pa.ArrowException, MachineError) as error:
            log.warning("the request log cannot be packed: %s", error)
            self._has_left = True
        self._packed = time.monotonic()

    def _pack_left(self) -> None:
        """Pack what was left behind, now that the disk takes parts; else the next start does."""
        if self._has_left:
            self._has_left = False
            compact_leftovers(self._folder)

    def _give_back_if_quiet(self) -> None:
        """Give back what packing took, some 50 MB; the next full file has to take it again."""
        if 0 < self._packed < time.monotonic() - QUIET_S:
            self._packed = 0.0
            pa.default_memory_pool().release_unused()
            give_back_memory()

    def _encoder_of(self, features: list[str]) -> Encoder:
        return Encoder(self._model, features, inputs=self._spec.inputs, redact=self._spec.redact)

    def _clean(self) -> None:
        self._cleaned = time.monotonic()
        delete_old(self._folder, self._model, self._spec.keep_days)
