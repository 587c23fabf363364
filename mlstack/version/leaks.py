"""What a model could cheat with: columns that give the label away, rows in two parts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mlstack.inputs.tables import leave_out
from mlstack.plurals import counted
from mlstack.version.result import Finding

Ints = npt.NDArray[np.int64]

FEWEST = 20  # rows before anything is suspected
REPEATED = 5  # rows of each value on average, before a value can be said to decide the label
ORDERED = 50  # rows before one threshold on a number can be said to decide it
FINENESS = 0.01  # of a column's deviation: numbers that round to the same are nearly equal
UNIQUE = 0.9  # of the rows must differ before equal ones are odd
TIMES_CHANCE = 10  # more pairs than independent columns would give are no chance
ID = re.compile(r"(^|[_\W])(id|ids|uuid|guid|key|index|idx|number|nr|row)$|[a-z]I[Dd]$", re.I)


@dataclass(frozen=True)
class Labeled:
    """The columns to learn from, and the class and part of each row."""

    columns: pa.Table
    labels: Ints  # number of the class
    parts: Ints  # number of the part; negative is none
    is_tied: bool = False  # rows that are equal in all columns of the file are in one part


def findings(table: Labeled) -> Iterator[Finding]:
    """Name columns that give the label away or say nothing, and rows that stand in two parts."""
    if len(table.labels) < FEWEST:
        return
    for name in table.columns.column_names:
        column = table.columns[name]
        if (found := _tells_label(name, column, table.labels)) is not None:
            yield found
        elif _is_id(name, column):
            yield Finding(
                name="id-like-column",
                problem=f"column `{name}` has another value in every row, like an id",
                hint=leave_out(name),
                suspicion=True,
            )
    yield from _rows_across(table)


def contradictions(rows: pa.Table, classes: list[str]) -> Iterator[Finding]:
    """Name rows that differ in their class alone, where rows are else unique.

    Args:
        rows: the columns that are learned from; of texts the text alone.
        classes: the class of each row; empty where it has none.
    """
    known = np.flatnonzero([bool(one) for one in classes])
    content = _groups([codes(rows[name]) for name in rows.column_names])[known]
    if len(known) < FEWEST or len(np.unique(content)) < UNIQUE * len(content):
        return  # the columns are coarse: equal rows are no wonder
    first: dict[int, int] = {}
    pairs = [
        (before, row)
        for row, group in zip(known.tolist(), content.tolist(), strict=True)
        if classes[before := first.setdefault(group, row)] != classes[row]
    ]
    if pairs:
        named = ", ".join(f"row {row + 1} is `{classes[row]}`" for row in pairs[0])
        yield Finding(
            name="contradicting-labels",
            problem=f"{counted(len(pairs), 'row has', 'rows have')} another class than an equal "
            f"row before, e.g. {named}; the first row is 1",
            hint="correct or remove one of them",
            suspicion=True,
        )


def decides(values: Ints, labels: Ints) -> bool:
    """Tell whether every value belongs to one class only, and each has been seen often enough."""
    known = values >= 0
    values, labels = values[known], labels[known]
    if len(values) < FEWEST:
        return False
    different, classes = len(np.unique(values)), int(labels.max()) + 1
    if different < 2 or len(values) < REPEATED * different or len(np.unique(labels)) < 2:
        return False
    return len(np.unique(values * classes + labels)) == different


def codes(column: pa.ChunkedArray) -> Ints:
    """Number the different values of a column; -1 is missing."""
    encoded = column.combine_chunks().dictionary_encode()
    return np.asarray(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def _tells_label(name: str, column: pa.ChunkedArray, labels: Ints) -> Finding | None:
    values = codes(column)
    if decides(values, labels):
        if len(np.unique(values[values >= 0])) == len(np.unique(labels)):
            return Finding(
                name="label-copy",
                problem=f"column `{name}` is the label under another name: "
                "each of its values stands for one class",
                hint=leave_out(name),
            )
        return _suspected(name, "each of its values occurs with one class only")
    if _is_number(column.type) and _separates(column, labels):
        return _suspected(name, "sorted by it, the classes do not overlap")
    return None


def _suspected(name: str, why: str) -> Finding:
    return Finding(
        name="column-tells-label",
        problem=f"column `{name}` decides the label: {why}",
        hint=f"was it known before the label? If not, {leave_out(name)}",
        suspicion=True,
    )


def _separates(column: pa.ChunkedArray, labels: Ints) -> bool:
    numbers = _numbers(column)
    known = ~np.isnan(numbers)
    numbers, labels = numbers[known], labels[known]
    classes = len(np.unique(labels))
    if len(numbers) < ORDERED or classes < 2 or len(np.unique(numbers)) < classes:
        return False
    order = np.lexsort((labels, numbers))
    turns = labels[order][1:] != labels[order][:-1]
    ties = numbers[order][1:] == numbers[order][:-1]
    return int(turns.sum()) == classes - 1 and not bool((turns & ties).any())


def _is_id(name: str, column: pa.ChunkedArray) -> bool:
    """Tell an id: a text or an integer that is never there twice."""
    count = len(column)
    if column.null_count or pc.count_distinct(column).as_py() < count:
        return False
    if pa.types.is_string(column.type):
        return True
    if not pa.types.is_integer(column.type):
        return False
    ends = pc.min_max(column).as_py()
    is_counted = ends["max"] - ends["min"] < 2 * count
    return is_counted or bool(ID.search(name))


def _rows_across(table: Labeled) -> Iterator[Finding]:
    exact = _groups([codes(table.columns[name]) for name in table.columns.column_names])
    twins = _across(exact, table.parts)
    if table.is_tied and len(np.unique(exact)) < UNIQUE * len(exact):
        twins = []  # without ids and the like the rows are coarse: equal ones are no wonder
    if twins:
        yield Finding(
            name="equal-rows-across-parts",
            problem=f"{counted(len(twins), 'row stands', 'rows stand')} in more than one of train, "
            f"val and test, e.g. row {twins[0] + 1}",
            hint="they differ in columns that are left out alone: remove the copies, or keep them "
            "together with `data.split.group_by`; the first row is 1"
            if table.is_tied
            else "set `data.checks.no_duplicates_across_splits: true`; the first row is 1",
            suspicion=True,
        )
    near = [row for row in _near_rows(table, exact) if row not in set(twins)]
    if near:
        yield Finding(
            name="near-equal-rows-across-parts",
            problem=f"{counted(len(near), 'row is', 'rows are')} equal but for rounding to rows of "
            f"another part, e.g. row {near[0] + 1}",
            hint="remove the copies, or keep them together with `data.split.group_by`; "
            "the first row is 1",
            suspicion=True,
        )


def _near_rows(table: Labeled, exact: Ints) -> list[int]:
    """List rows that equal one of another part after rounding, where rows are else unique."""
    names = table.columns.column_names
    decimal = [n for n in names if pa.types.is_floating(table.columns[n].type)]
    if not decimal or len(np.unique(exact)) < UNIQUE * len(exact):
        return []
    others = [codes(table.columns[n]) for n in names if n not in decimal]
    found: set[int] = set()
    by_chance = 0.0
    for shift in (0.0, 0.5):  # two grids, so that no border keeps near values apart
        columns = [*others, *(_rounded(_numbers(table.columns[n]), shift) for n in decimal)]
        groups = _groups(columns)
        if len(np.unique(groups)) < UNIQUE * len(groups):
            return []  # the columns are coarse: equal rows are no wonder
        by_chance += _pairs_by_chance(columns)
        found.update(_across(groups, table.parts))
    return sorted(found) if len(found) > TIMES_CHANCE * by_chance else []


def _pairs_by_chance(columns: list[Ints]) -> float:
    """Give how many pairs of rows would be equal if the columns knew nothing of each other."""
    equal = 1.0
    for column in columns:
        _, counts = np.unique(column, return_counts=True)
        equal *= float(np.square(counts / len(column)).sum())
    return equal * len(columns[0]) ** 2 / 2


def _rounded(numbers: npt.NDArray[np.float64], shift: float) -> Ints:
    spread = float(np.nanstd(numbers)) if not np.isnan(numbers).all() else 0.0
    scaled = numbers / (spread * FINENESS) + shift if spread else numbers * 0
    return np.floor(np.nan_to_num(scaled, nan=-9e15)).astype(np.int64)


def _groups(columns: list[Ints]) -> Ints:
    """Number rows by their content: equal numbers, equal rows."""
    found = np.zeros(len(columns[0]), np.int64) if columns else np.zeros(0, np.int64)
    for column in columns:
        _, place = np.unique(column, return_inverse=True)
        _, found = np.unique(found * (place.max(initial=0) + 1) + place, return_inverse=True)
    return found


def _across(groups: Ints, parts: Ints) -> list[int]:
    """List the rows beyond train whose content stands in another part, too."""
    placed = np.flatnonzero(parts >= 0)
    width = int(parts.max(initial=0)) + 1
    pairs = np.unique(groups[placed] * width + parts[placed])
    content, times = np.unique(pairs // width, return_counts=True)
    shared = np.isin(groups[placed], content[times > 1]) & (parts[placed] > 0)
    return [int(row) for row in placed[shared]]


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
