"""One write-ahead file (Arrow IPC stream), and how such files become Parquet parts.

The writer holds a lock on its file, and the kernel frees it when the process dies: that is how
the next server tells a file that was left behind from one that is being written.
"""

import datetime
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlstack import files, parquet
from mlstack.errors import MachineError
from mlstack.records import requests
from mlstack.serve.worker.arrow_stream import END, Raw, Stream
from mlstack.serve.worker.said import log

FULL_BYTES = 16 << 20
MAX_PIECES = 1024  # IOV_MAX of Linux
HOUR_US = 3_600_000_000
EVER_DAYS = 365_000  # before the year 1 no date can be told


class Wal:
    """An open file `wal/MODEL-PID-STARTED.arrows`, STARTED in microseconds."""

    def __init__(self, folder: Path, model: str, stream: Stream) -> None:
        wal = folder / requests.WAL
        wal.mkdir(parents=True, exist_ok=True)
        while True:
            self.path = wal / f"{model}-{os.getpid()}-{time.time_ns() // 1000}.arrows"
            self._file = self.path.open("xb", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if os.fstat(self._file.fileno()).st_nlink:
                break
            self._file.close()  # a server that starts took it for left behind, before the lock
        try:
            _write(self._file.fileno(), [stream.begin])
            os.fsync(self._file.fileno())
            files.sync_folder(wal)
        except OSError:
            self.path.unlink()
            self.close()
            raise
        self._opened = time.monotonic()
        self.rows = 0

    def append(self, batch: list[Raw], rows: int) -> None:
        """Hand a batch of so many rows to the kernel: from here on a kill of us cannot lose it."""
        try:
            _write(self._file.fileno(), batch)
        except OSError:
            if not self.rows:  # or each try on a full disk would leave one more file
                self.path.unlink(missing_ok=True)
            raise
        self.rows += rows

    def is_full(self) -> bool:
        """Tell whether it is time for the next file."""
        return self._file.tell() > FULL_BYTES

    def is_nearly_full(self) -> bool:
        """Tell whether it is time to open the next file."""
        return self._file.tell() > FULL_BYTES // 2

    def age_s(self) -> float:
        """Tell how long it has been open."""
        return time.monotonic() - self._opened

    def finish(self, folder: Path) -> None:
        """Pack it and close it, or leave it as it is where that fails."""
        try:
            _write(self._file.fileno(), [END])
            compact(folder, self.path)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of it as it is, for whoever packs it later."""
        self._file.close()


def _write(descriptor: int, pieces: list[Raw]) -> None:
    """Write all of it. What is written in one call is not torn apart by a kill of us.

    Raises:
        OSError: the disk takes no more; what it took before lies there.
    """
    while pieces:
        written = os.writev(descriptor, pieces[:MAX_PIECES])
        if written == sum(map(len, pieces)):  # nearly always
            return
        pieces = _behind(pieces, written)


def _behind(pieces: list[Raw], written: int) -> list[Raw]:
    """Give what comes behind so many bytes."""
    for place, piece in enumerate(pieces):
        if written < len(piece):
            return [memoryview(piece)[written:], *pieces[place + 1 :]]
        written -= len(piece)
    return []


def compact(folder: Path, wal: Path) -> None:
    """Turn a write-ahead file into Parquet parts and delete it.

    A part's name comes from the file it was made of, so that doing this again after a crash
    replaces the part instead of adding the rows twice.
    """
    table = requests.read_wal(wal)
    if table is not None and table.num_rows:
        model, pid, started = wal.stem.rsplit("-", 2)
        for hour, rows in _by_hour(table):
            moment = datetime.datetime.fromtimestamp(hour * 3600, datetime.UTC)
            place = folder / requests.partition(model, f"{moment:%Y-%m-%d}", f"{moment:%H}")
            part = place / f"part-{started}-{pid}.parquet"
            write_part(rows, part)
    wal.unlink()
    files.sync_folder(wal.parent)


def _by_hour(table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Divide rows, which lie nearly in the order of time, by the hour since 1970.

    In slices: Arrow's own functions for it cost a server 9 MB and 0.03 s to load.
    """
    hours = table.column("ts_us").to_numpy() // HOUR_US
    starts = [0, *(np.flatnonzero(np.diff(hours)) + 1), len(hours)]
    slices = [
        (int(hours[start]), table.slice(start, stop - start)) for start, stop in pairwise(starts)
    ]
    for hour in dict.fromkeys(hour for hour, _ in slices):
        yield hour, pa.concat_tables([rows for found, rows in slices if found == hour])


def write_part(table: pa.Table, part: Path) -> None:
    """Write a Parquet file that appears whole or not at all."""
    part.parent.mkdir(parents=True, exist_ok=True)
    beside = part.with_name(f".{part.name}.tmp")
    try:
        parquet.write(table, beside)
        files.sync_file(beside)
        files.move(beside, part)
    finally:
        beside.unlink(missing_ok=True)  # a full disk must not fill up with what did not fit


def compact_leftovers(folder: Path) -> None:
    """Pack the files of servers that are no more; what cannot be packed stops no server.

    A damaged file is put aside as `*.damaged`; where the disk is full it stays for the next start.
    """
    for wal in sorted((folder / requests.WAL).glob("*.arrows")):
        with wal.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its server runs
            try:
                compact(folder, wal)
            except (OSError, MachineError) as error:
                log.warning("`%s` cannot be packed now: %s", wal, error)
            except (ValueError, pa.ArrowException) as error:
                aside = wal.rename(wal.with_name(f"{wal.name}.damaged"))
                log.warning("`%s` is damaged and put aside: %s", aside, error)


def delete_old(folder: Path, model: str, keep_days: int) -> None:
    """Delete the days of a model's log that are older than `keep_days`."""
    oldest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(
        days=min(keep_days, EVER_DAYS)
    )
    for day in (folder / f"model={model}").glob("date=*"):
        if day.name.removeprefix("date=") < f"{oldest:%Y-%m-%d}":
            shutil.rmtree(day, ignore_errors=True)  # another server may be at it, too
