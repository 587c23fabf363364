"""Whole tables -> numbers, a column at a time: what `tables` does row by row, much faster.

A request is a row, and its mistakes are named by row and column; training data is a table of typed
columns. Where a column holds what it should not, the rows are asked, and say so.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlstack.errors import DataError
from mlstack.inputs import tables
from mlstack.inputs.separated import MISSING
from mlstack.inputs.tables import LARGEST, MOST_VALUES, TAKEN, TableSpec

LOOK_ROWS = 4096  # that are asked at once for what is wrong with them


def learn(table: pa.Table, columns: list[str]) -> TableSpec:
    """Learn from training rows how to encode any, as `tables.learn` does.

    Raises:
        DataError: a column is empty, its name is taken, or it is text of too many values.
    """
    numbers: dict[str, float] = {}
    categories: dict[str, list[str]] = {}
    for name in columns:
        column = table[name].combine_chunks()
        if name in TAKEN or not _has_values(column):
            return tables.learn(table.to_pylist(), columns)  # says what is wrong
        if _is_number(column.type):
            values = _numbers(column)
            if _beyond(values):
                return tables.learn(table.to_pylist(), columns)
            numbers[name] = float(np.nanmean(values))
        else:
            categories[name] = sorted(set(pc.unique(_texts(column)).to_pylist()) - {None, ""})
            if len(categories[name]) > MOST_VALUES:
                return tables.learn(table.to_pylist(), columns)
    if not numbers and not categories:
        raise DataError("the table has no columns to learn from")
    return TableSpec(numbers, categories)


def encode(spec: TableSpec, table: pa.Table) -> np.ndarray:
    """Turn a table into float32 of shape (rows, width), as `TableSpec.encode` does.

    Raises:
        DataError: a value is of the wrong type or its column is not there; row and column are
            named.
    """
    described = np.empty((table.num_rows, len(spec.columns)), dtype=np.float32)
    for place, name in enumerate(spec.columns):
        column = table[name].combine_chunks() if name in table.column_names else None
        found = None if column is None else _described(spec, name, column)
        if found is None:
            return _by_rows(spec, table)
        described[:, place] = found
    return spec.widen(described)


def beyond(column: pa.ChunkedArray) -> list[int]:
    """Give the rows of a column whose number is refused: too large for float32, or infinite."""
    if not _is_number(column.type):
        return []
    found: list[int] = np.flatnonzero(np.abs(_numbers(column.combine_chunks())) > LARGEST).tolist()
    return found


def _described(spec: TableSpec, name: str, column: pa.Array) -> np.ndarray | None:
    """Give a number per value, NaN where it is missing; None for a column of another kind."""
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if name in spec.numbers:
        values = _numbers(column) if _is_number(column.type) else None
        return None if values is None or _beyond(values) else values
    if _is_number(column.type):
        return None
    texts, known = _texts(column), tables.codes_of(spec.categories[name])
    places = pc.index_in(texts, value_set=pa.array(known, pa.string()))
    missing = pc.and_(pc.is_null(places), pc.is_in(texts, value_set=pa.array([None, *MISSING])))
    codes = np.array([*known.values(), len(spec.categories[name])])  # the last is any other text
    numbers = codes[pc.fill_null(places, len(known)).to_numpy()]
    return np.where(missing.to_numpy(zero_copy_only=False), np.nan, numbers)


def _by_rows(spec: TableSpec, table: pa.Table) -> np.ndarray:
    """Ask the rows, which name what is wrong."""
    batches = table.to_batches(max_chunksize=LOOK_ROWS)
    encoded = [spec.encode(batch.to_pylist()) for batch in batches]
    return np.concatenate([np.empty((0, spec.width), np.float32), *encoded])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _has_values(column: pa.Array) -> bool:
    if _is_number(column.type):
        return bool((~np.isnan(_numbers(column))).any())
    return bool(pc.any(pc.not_equal(_texts(column), "")).as_py())


def _numbers(column: pa.Array) -> np.ndarray:
    """Give float64, NaN where a value is missing."""
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def _beyond(values: np.ndarray) -> bool:
    """Tell whether a number is too large for float32, or infinite."""
    return bool((np.abs(values) > LARGEST).any())


def _texts(column: pa.Array) -> pa.Array:
    """Give texts; true and false as JSON writes them."""
    return column.cast(pa.string())
