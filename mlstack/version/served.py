"""A prediction by its id: which model version answered it, when, and what came of it.

The time in the id leads to the hour's folder and, as a part is named by when its rows began to be
written, to the part.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mlstack.errors import DataError
from mlstack.records import arrows, cells
from mlstack.records.layout import Layout
from mlstack.records.prediction_id import moment, rows_of
from mlstack.version.lineage import Predicted

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
    values = dict(zip(COLUMNS, row, strict=True))
    at = datetime.fromtimestamp(values.pop("ts_us") / 1e6, UTC)
    return Predicted(
        id=values.pop("prediction_id"),
        at=at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        label=_label(layout.feedback, row[0]),
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
    return next((row for part in parts if (row := _row(part, wanted, COLUMNS))), None)


def _distance(part: Path, begun_us: int) -> int:
    """Tell how long before the request a part was begun; later ones come last."""
    started = part.stem.split("-")[1]
    before = begun_us - int(started) if started.isdigit() else -1
    return before if before >= 0 else (1 << 62) - before


def _row(part: Path, wanted: str, columns: tuple[str, ...]) -> Row | None:
    """Read the row of a prediction from a part; of a request of several rows, the first.

    Raises:
        DataError: the part is damaged.
    """
    for name in rows_of(wanted):
        try:
            with _mapped(part) as raw:
                found = cells.find(memoryview(raw), columns[0], name, columns)
        except (NotImplementedError, ValueError, LookupError, struct.error):
            found = _by_arrow(part, name, columns)
        if found is not None:
            return tuple(found)
    return None


def _by_arrow(part: Path, wanted: str, columns: tuple[str, ...]) -> list[Any] | None:
    """Do the same for a part that is written in another way."""
    from mlstack.records import requests  # noqa: PLC0415  pyarrow, which others need not wait for

    try:
        rows = requests.read_part(part).select(columns).to_pylist()
    except (ValueError, OSError, KeyError) as error:
        raise DataError(f"`{part}` is damaged: {error}", hint="move it away") from error
    return next((list(row.values()) for row in rows if row[columns[0]] == wanted), None)


def _label(feedback: Path, prediction: str) -> str | None:
    """Give the latest label that came for a prediction."""
    columns = ("prediction_id", "ts_us", "label")
    found = [_row(part, prediction, columns) for part in feedback.glob("part-*.parquet")]
    latest = max((row for row in found if row), key=lambda row: row[1], default=None)
    return str(latest[2]) if latest else None


def _in_wal(log: Path, wanted: str) -> Row | None:
    """Look among the rows that are not packed yet."""
    begun_us = (moment(wanted) + LATE).timestamp() * 1e6
    for path in (log / "wal").glob("*.arrows"):
        started = path.stem.rpartition("-")[2]
        if started.isdigit() and int(started) > begun_us:
            continue
        for batch in _holding(path, wanted):
            for row in range(batch.rows):
                if batch.cell("prediction_id", row) in rows_of(wanted):
                    return tuple(batch.cell(name, row) for name in COLUMNS)
    return None


def _holding(path: Path, wanted: str) -> Iterator[arrows.Batch]:
    """Yield the batches that may hold an id; none when the file was packed meanwhile."""
    try:
        with _mapped(path) as raw:
            place = raw.find(wanted.encode())
            for batch in arrows.batches(memoryview(raw)) if place >= 0 else ():
                if batch.buffers and batch.buffers[-1][0] >= place:
                    yield batch
    except FileNotFoundError:
        return


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | bytes]:
    """Give the bytes of a file without reading them."""
    with path.open("rb") as stream:
        size = path.stat().st_size
        # Not closed by hand: slices of it live as long as somebody reads them.
        yield mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
