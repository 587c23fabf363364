"""A prediction by its id: which model version answered it, when, and what came of it.

The time in the id leads to the hour's folder and, as a part is named by when its rows began to be
written, to the part.
"""

import mmap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

# The extension below `duckdb`: the package around it costs five times as much to import.
import _duckdb as engine

from mlstack.errors import DataError
from mlstack.records import arrows
from mlstack.records.layout import Layout
from mlstack.records.prediction_id import after, moment
from mlstack.version.result import Predicted

COLUMNS = (
    "prediction_id",
    "ts_us",
    "model",
    "version",
    "route",
    "status",
    "latency_us",
    "prediction",
    "confidence",
)
LATE = timedelta(minutes=10)  # most that an answer is logged after its request began
NEAREST = 4  # parts that are looked into before all of the hour are
Row = tuple[Any, ...]


def find(layout: Layout, wanted: str) -> Predicted:
    """Find a prediction in the request log, and its label when one came.

    Args:
        layout: the project.
        wanted: the id of a prediction, or of a request of several rows: then its first is meant.

    Raises:
        DataError: the log has no such prediction.
    """
    row = _in_wal(layout.requests, wanted) or _in_parts(layout.requests, wanted)
    if row is None:
        raise DataError(
            f"the request log has no prediction `{wanted}` of "
            f"{moment(wanted):%Y-%m-%d %H:%M:%S} UTC",
            hint="is it of this project? `serve.log.sample` and `keep_days` say what is kept",
        )
    labels = sorted(layout.feedback.glob("part-*.parquet"))
    label = _query(labels, "label", row[0], order="ts_us DESC")
    values = dict(zip(COLUMNS, row, strict=True))
    at = datetime.fromtimestamp(values.pop("ts_us") / 1e6, UTC)
    return Predicted(
        id=values.pop("prediction_id"),
        at=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        label=label[0] if label else None,
        **values,
    )


def _in_parts(log: Path, wanted: str) -> Row | None:
    asked = moment(wanted)
    hours = {asked.replace(minute=0), (asked + LATE).replace(minute=0)}
    parts = [
        part
        for hour in hours
        for part in log.glob(f"model=*/date={hour:%Y-%m-%d}/hour={hour:%H}/part-*.parquet")
    ]
    begun_us = int(asked.timestamp() * 1e6)
    parts.sort(key=lambda part: _distance(part, begun_us))
    columns = ", ".join(COLUMNS)
    nearest = _query(parts[:NEAREST], columns, wanted)
    return nearest or _query(parts[NEAREST:], columns, wanted)


def _distance(part: Path, begun_us: int) -> int:
    """Tell how long before the request a part was begun; later ones come last."""
    started = part.stem.split("-")[1]
    before = begun_us - int(started) if started.isdigit() else -1
    return before if before >= 0 else (1 << 62) - before


def _query(
    parts: list[Path], columns: str, wanted: str, order: str = "prediction_id"
) -> Row | None:
    """Read the first row of a prediction; the statistics in the parts spare all others."""
    if not parts:
        return None
    found: Row | None = (
        _engine()
        .execute(
            f"SELECT {columns} FROM read_parquet($parts, hive_partitioning=false) "
            f"WHERE prediction_id >= $first AND prediction_id < $after ORDER BY {order} LIMIT 1",
            {"parts": [str(part) for part in parts], "first": wanted, "after": after(wanted)},
        )
        .fetchone()
    )
    return found


@cache
def _engine() -> Any:
    """Open a database in memory, once: that takes longer than to ask it."""
    return engine.connect(config={"threads": 1})


def _in_wal(log: Path, wanted: str) -> Row | None:
    """Look among the rows that are not packed yet."""
    begun_us = (moment(wanted) + LATE).timestamp() * 1e6
    for path in (log / "wal").glob("*.arrows"):
        started = path.stem.rpartition("-")[2]
        if started.isdigit() and int(started) > begun_us:
            continue
        for batch in _holding(path, wanted):
            for row in range(batch.rows):
                if wanted <= str(batch.cell("prediction_id", row)) < after(wanted):
                    return tuple(batch.cell(name, row) for name in COLUMNS)
    return None


def _holding(path: Path, wanted: str) -> Iterator[arrows.Batch]:
    """Yield the batches that may hold an id; none when the file was packed meanwhile."""
    try:
        with path.open("rb") as stream:
            if not path.stat().st_size:
                return
            raw = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        return
    place = raw.find(wanted.encode())
    for batch in arrows.batches(memoryview(raw)) if place >= 0 else ():
        if batch.buffers and batch.buffers[-1][0] >= place:
            yield batch
