"""Three versions of `labels.parquet` -> one: merged by the path of a row, and then by column."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlstack.errors import DataError
from mlstack.records import dataset
from mlstack.version.result import Conflict

Row = dict[str, Any]
KEY = "path"


@dataclass
class MergedRows:
    """The merged labels and what both sides answered differently; ours is kept there."""

    table: pa.Table
    conflicts: list[Conflict] = field(default_factory=list)


def merge(before: Path | None, ours: Path, theirs: Path, side: str | None) -> MergedRows:
    """Merge labels; `side` (`ours` or `theirs`) settles conflicts, None names them.

    Raises:
        DataError: a side names a path twice, or a column has another type there.
    """
    tables = [dataset.read_labels(path) for path in (ours, theirs)]
    try:
        schema = pa.unify_schemas([table.schema for table in tables])
    except pa.ArrowInvalid as error:
        raise DataError(f"`{dataset.LABELS}`: a column has another type there: {error}") from error
    mine, other = (_by_path(table) for table in tables)
    old = _by_path(dataset.read_labels(before)) if before else {}
    found = MergedRows(schema.empty_table())
    kept = []
    for path in sorted(old.keys() | mine.keys() | other.keys()):
        row = _row((old.get(path), mine.get(path), other.get(path)), path, side, found.conflicts)
        if row is not None:
            kept.append(row)
    found.table = pa.Table.from_pylist(kept, schema=schema)
    return found


def _by_path(table: pa.Table) -> dict[str, Row]:
    rows = {row[KEY]: row for row in table.to_pylist()}
    if len(rows) != table.num_rows:
        raise DataError(f"`{dataset.LABELS}` names a path twice; type `mlstack version check`")
    return rows


def _row(
    three: tuple[Row | None, Row | None, Row | None],
    path: str,
    side: str | None,
    conflicts: list[Conflict],
) -> Row | None:
    old, mine, other = three
    if mine == other or other == old:
        return mine
    if mine == old:
        return other
    if mine is None or other is None:
        if side is None:
            conflicts.append(Conflict(path=path, ours=_label(mine), theirs=_label(other)))
        return other if side == "theirs" else mine
    return _cells((old or {}, mine, other), path, side, conflicts)


def _cells(
    three: tuple[Row, Row, Row], path: str, side: str | None, conflicts: list[Conflict]
) -> Row:
    old, mine, other = three
    row: Row = {}
    for name in mine.keys() | other.keys():
        before, ours, theirs = old.get(name), mine.get(name), other.get(name)
        row[name] = theirs if ours == before else ours
        if before in (ours, theirs) or ours == theirs:
            continue
        if side is None:
            conflicts.append(Conflict(path=path, ours=f"{name} {ours}", theirs=f"{name} {theirs}"))
        row[name] = theirs if side == "theirs" else ours
    return row


def _label(row: Row | None) -> str:
    return f"label {row.get('label')}" if row else "no label"
