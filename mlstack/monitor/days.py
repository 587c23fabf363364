"""The request log day by day: each day is counted once, and its counts are kept."""

import hashlib
from collections.abc import Generator
from datetime import datetime
from itertools import groupby
from pathlib import Path

import msgspec
import numpy as np

from mlstack.errors import DataError, MachineError
from mlstack.monitor import drift, windows
from mlstack.monitor.target import Target
from mlstack.monitor.windows import Floats, Window
from mlstack.records import requests
from mlstack.records.base import read, write
from mlstack.records.day import Day
from mlstack.records.layout import Layout
from mlstack.records.reference import CategoryColumn, NumericColumn, Reference
from mlstack.records.worker import WorkerProgress
from mlstack.stats import binning

QUIET = 7  # days of the log without this version, before which it is not looked for


def known(
    layout: Layout, target: Target, now: datetime
) -> Generator[WorkerProgress, None, list[Day]]:
    """Return every day that is over, the oldest first; days whose parts changed are counted again.

    The first time a month of traffic takes a minute, so it is said how far that is. A day that
    cannot be read is left out, and so is what only a write-ahead file holds.
    """
    folder = layout.days(target.model, target.version)
    reference = _hash(msgspec.json.encode(target.reference))
    kept = _kept(folder, reference)
    parts = requests.parts(layout.requests, target.model)
    dated = {date: list(those) for date, those in groupby(parts, _date) if date < f"{now:%Y-%m-%d}"}
    names = {date: _fingerprint(those) for date, those in dated.items()}
    stale = [date for date in names if date not in kept or kept[date].parts != names[date]]
    quiet = 0
    for date in sorted(dated, reverse=True):
        if date in stale:
            place = len(stale) - 1 - stale.index(date)
            yield WorkerProgress(text=f"counting {date}", done=place, total=len(stale))
            window = _read(dated[date], target)
            if window is None or (date in kept and window.rows < kept[date].rows):
                continue  # its parts are just being deleted
            kept[date] = day = Day(
                date=date,
                parts=names[date],
                reference=reference,
                rows=window.rows,
                counts=count(target.reference, window) if window.rows else {},
            )
            _keep(folder / f"{date}.json", day)
        quiet = 0 if kept[date].rows else quiet + 1
        if quiet == QUIET:
            break
    return [kept[date] for date in sorted(kept)]


def count(reference: Reference, window: Window) -> dict[str, list[int]]:
    """Count every column of a window over the bins of the reference."""
    found: dict[str, list[int]] = {}
    columns: list[NumericColumn | CategoryColumn] = [*reference.numeric, *reference.categories]
    for column in columns:
        match column:
            case CategoryColumn(name=drift.PREDICTION):
                found[column.name] = _predictions(column, window)
            case _ if column.name not in window.numeric or not drift.is_filled(column):
                continue
            case CategoryColumn():
                found[column.name] = _codes(window.numeric[column.name], len(column.counts))
            case NumericColumn():
                edges = drift.bins(column)[1]
                found[column.name] = binning.counts(window.numeric[column.name], edges)[0].tolist()
        if column.name in window.numeric:
            absent = int(np.isnan(window.numeric[column.name]).sum())
            found[column.name + drift.MISSING] = [window.rows - absent, absent]
    return found


def _read(parts: list[Path], target: Target) -> Window | None:
    try:
        return windows.day(parts, target.model, target.version)
    except DataError:
        return None


def _predictions(column: CategoryColumn, window: Window) -> list[int]:
    seen = np.bincount(window.predictions, minlength=len(window.classes)).tolist()
    now = dict(zip(window.classes, seen, strict=True))
    known = [now.pop(name, 0) for name in column.counts]
    return [*known, sum(now.values())]


def _codes(values: Floats, total: int) -> list[int]:
    known = values[np.isfinite(values)].astype(np.int64)
    return [int(one) for one in np.bincount(known, minlength=total)[:total]]


def _kept(folder: Path, reference: str) -> dict[str, Day]:
    """Read what was counted over these bins; the number of a deleted package is given again."""
    found: dict[str, Day] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            day = read(path, Day)
        except DataError:
            continue  # it is counted again
        if day.reference == reference:
            found[path.stem] = day
    return found


def _keep(path: Path, day: Day) -> None:
    try:
        write(path, day)
    except (MachineError, OSError):
        return  # a full or read-only disk: the verdict is the same, and the day is counted again


def _date(part: Path) -> str:
    return part.parent.parent.name.removeprefix("date=")


def _fingerprint(parts: list[Path]) -> str:
    names = "\n".join(f"{part.parent.name}/{part.name}" for part in parts)
    return _hash(names.encode())


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
