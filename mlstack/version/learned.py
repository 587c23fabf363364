"""What the data is like, and how it differs from what was learned and committed."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from mlstack.inputs.tables import LARGEST
from mlstack.records.schema import ColumnSchema, DataSchema, ImagesSchema
from mlstack.version.pictures import Album
from mlstack.version.result import Finding

MOST_VALUES = 200  # of a text; more are names or free text, of which anything is allowed
REPEATED = 5  # rows of each value on average make a text a set of values
MOST_DIGITS = 17  # that tell one float64 from every other
WIDER = 0.25  # of a column's range may be added on each side before a value is out of range
BALANCE_MOVED = 0.1  # share of the examples
MEAN_MOVED = 1.0  # in deviations
SIZE_FACTOR = 2.0  # of the least and the most pixels that were learned
LEARN = "if that is right, type `mlstack version check --learn`"


def columns_of(table: pa.Table) -> dict[str, ColumnSchema]:
    """Describe the columns of a table as they are; `widened` makes limits of it."""
    return {name: _column(table[name]) for name in table.column_names}


def images_of(album: Album) -> ImagesSchema | None:
    """Describe the images of a dataset as they are."""
    if not album.looks:
        return None
    widths = [look.width for look in album.looks]
    heights = [look.height for look in album.looks]
    return ImagesSchema(
        width=(min(widths), max(widths)),
        height=(min(heights), max(heights)),
        modes=sorted({look.mode for look in album.looks}),
    )


def widened(seen: DataSchema) -> DataSchema:
    """Turn what was seen into what is allowed: ranges get room, but nothing turns negative."""
    return replace(
        seen,
        classes={name: round(share, 4) for name, share in seen.classes.items()},
        columns={name: _room(column) for name, column in seen.columns.items()},
    )


def differences(learned: DataSchema, seen: DataSchema) -> Iterator[Finding]:
    """Name everything in which the data differs from what was learned."""
    yield from _classes(learned, seen)
    for name in sorted(learned.columns.keys() - seen.columns.keys()):
        yield Finding(name="vanished-column", problem=f"column `{name}` is gone", hint=LEARN)
    for name in sorted(seen.columns.keys() - learned.columns.keys()) if learned.columns else ():
        yield Finding(name="new-column", problem=f"column `{name}` is new", hint=LEARN)
    for name, column in learned.columns.items():
        if name in seen.columns:
            yield from _changed(name, column, seen.columns[name])
    if learned.images is not None and seen.images is not None:
        yield from _images(learned.images, seen.images)


def _column(values: pa.ChunkedArray) -> ColumnSchema:
    kind = _kind(values.type)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    known = values.drop_null()
    missing = 1 - len(known) / len(values) if len(values) else 0.0
    if kind in ("integer", "number"):
        numbers = known.to_numpy().astype(np.float64)
        numbers = numbers[np.abs(numbers) <= LARGEST]  # `number-too-large`, or in an ignored column
        if not len(numbers):
            return ColumnSchema(type="empty", missing=missing)
        return ColumnSchema(
            type=kind,
            missing=missing,
            low=float(numbers.min()),
            high=float(numbers.max()),
            mean=float(numbers.mean()),
            deviation=float(numbers.std()),
        )
    if kind == "text":
        different = known.unique()
        is_set = len(different) <= min(MOST_VALUES, max(2, len(known) / REPEATED))
        named = sorted(different.to_pylist()) if is_set else None
        return ColumnSchema(type=kind, missing=missing, values=named)
    return ColumnSchema(type=kind if len(known) else "empty", missing=missing)


def _kind(kind: Any) -> str:
    if pa.types.is_boolean(kind):
        return "truth"
    if pa.types.is_integer(kind):
        return "integer"
    return "number" if pa.types.is_floating(kind) else "text"


def _room(column: ColumnSchema) -> ColumnSchema:
    if column.low is None or column.high is None:
        return replace(column, missing=round(column.missing, 4))
    room = WIDER * (column.high - column.low)
    low, high = column.low - room, column.high + room
    if column.low >= 0 > low:
        low = 0.0
    if column.type == "integer":
        low, high = float(math.floor(low)), float(math.ceil(high))
    spread = column.high - column.low
    return replace(
        column,
        missing=round(column.missing, 4),
        low=_short(low, spread),
        high=_short(high, spread),
        mean=_short(column.mean, column.deviation or 0.0),
        deviation=_short(column.deviation, column.deviation or 0.0),
    )


def _short(value: float | None, spread: float) -> float | None:
    """Round for people, by a millionth of the spread: no limit may move into what was seen."""
    if not value or not spread:
        return value
    digits = 6 + math.ceil(math.log10(max(abs(value) / spread, 1)))
    return float(f"{value:.{min(digits, MOST_DIGITS)}g}")


def _classes(learned: DataSchema, seen: DataSchema) -> Iterator[Finding]:
    for name in sorted(learned.classes.keys() - seen.classes.keys()):
        yield Finding(
            name="vanished-class", problem=f"class `{name}` has no example any more", hint=LEARN
        )
    for name in sorted(seen.classes.keys() - learned.classes.keys()):
        yield Finding(name="new-class", problem=f"class `{name}` is new", hint=LEARN)
    yield from _balance(learned, seen)


def _balance(learned: DataSchema, seen: DataSchema) -> Iterator[Finding]:
    """Name the classes whose shares moved most, when more has moved than chance can."""
    moves = {
        name: seen.classes.get(name, 0.0) - learned.classes.get(name, 0.0)
        for name in learned.classes.keys() | seen.classes.keys()
    }
    moved = sum(map(abs, moves.values())) / 2  # total variation
    chance = math.sqrt(len(moves) / max(1, min(learned.examples, seen.examples)))
    if moved > max(BALANCE_MOVED, chance):
        most = sorted(moves, key=lambda name: (-abs(moves[name]), name))[:3]
        named = ", ".join(
            f"`{name}` {learned.classes.get(name, 0.0):.1%} -> {seen.classes.get(name, 0.0):.1%}"
            for name in most
        )
        yield Finding(
            name="class-balance-moved",
            problem=f"the balance of the classes moved by {moved:.0%}: {named}",
            hint=LEARN,
            suspicion=True,
        )


def _changed(name: str, learned: ColumnSchema, seen: ColumnSchema) -> Iterator[Finding]:
    if "empty" in (learned.type, seen.type):
        return  # `data.checks.max_missing` says whether that may be
    numbers = {"integer", "number"}
    if learned.type != seen.type and (learned.type, seen.type) != ("number", "integer"):
        yield Finding(
            name="type-changed",
            problem=f"column `{name}` held {learned.type} values, and holds {seen.type} values now",
            hint=LEARN,
            suspicion={learned.type, seen.type} == numbers,  # a decimal among integers
        )
    if {learned.type, seen.type} <= numbers:
        yield from _range(name, learned, seen)
    if learned.values is not None and seen.type == "text":
        yield from _unknown(name, learned.values, seen.values)


def _range(name: str, learned: ColumnSchema, seen: ColumnSchema) -> Iterator[Finding]:
    low, high = learned.low, learned.high
    assert seen.low is not None, "a column with numbers has a least one"
    assert seen.high is not None, "and a largest one"
    allowed = f"allowed is {_limit(low)} to {_limit(high)}"
    if low is not None and seen.low < low:
        problem = f"column `{name}` holds {seen.low:g}; {allowed}"
        yield Finding(name="out-of-range", problem=problem, hint=LEARN)
    if high is not None and seen.high > high:
        problem = f"column `{name}` holds {seen.high:g}; {allowed}"
        yield Finding(name="out-of-range", problem=problem, hint=LEARN)
    if learned.mean is None or seen.mean is None or not learned.deviation:
        return
    if abs(seen.mean - learned.mean) > MEAN_MOVED * learned.deviation:
        yield Finding(
            name="mean-moved",
            problem=f"the mean of column `{name}` was {learned.mean:g}, and is {seen.mean:g} now",
            hint="is it another unit?",
            suspicion=True,
        )


def _unknown(name: str, allowed: list[str], values: list[str] | None) -> Iterator[Finding]:
    if values is None:
        problem = f"column `{name}` held {len(allowed)} different texts, and holds far more now"
        yield Finding(name="unknown-value", problem=problem, hint=LEARN)
        return
    for value in sorted(set(values) - set(allowed)):
        yield Finding(
            name="unknown-value",
            problem=f"column `{name}` holds `{value}`, which is new",
            hint=LEARN,
        )


def _images(learned: ImagesSchema, seen: ImagesSchema) -> Iterator[Finding]:
    for what, before, now in (
        ("width", learned.width, seen.width),
        ("height", learned.height, seen.height),
    ):
        if now[0] * SIZE_FACTOR < before[0] or now[1] > before[1] * SIZE_FACTOR:
            yield Finding(
                name="image-size",
                problem=f"the {what} of images was {before[0]} to {before[1]} pixels, "
                f"and is {now[0]} to {now[1]} now",
                hint=LEARN,
                suspicion=True,
            )
    for mode in sorted(set(seen.modes) - set(learned.modes)):
        yield Finding(
            name="image-mode",
            problem=f"there are images of the mode {mode}; before, all were "
            f"{' or '.join(learned.modes)}",
            hint=LEARN,
            suspicion=True,
        )


def _limit(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"
