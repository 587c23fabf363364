"""What is laid out by hand is what Arrow reads."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlstack.records import requests
from mlstack.records.requests import Kind
from mlstack.serve.worker import arrow_stream
from mlstack.serve.worker.arrow_stream import (
    END,
    JOINED_BYTES,
    KEPT_ROWS,
    Column,
    Stream,
    column_of,
    same,
)

KINDS: dict[str, Kind] = {
    "a": "string",
    "b": "int16",
    "c": "int32",
    "d": "int64",
    "e": "float32",
    "f": "list<float32>",
    "g": "binary",
    "h": "string",
}
single = st.floats(width=32, allow_nan=False)
row = st.fixed_dictionaries(
    {
        "a": st.text(max_size=5),
        "b": st.integers(-(2**15), 2**15 - 1),
        "c": st.integers(-(2**31), 2**31 - 1),
        "d": st.integers(-(2**63), 2**63 - 1),
        "e": st.none() | single,
        "f": st.none() | st.lists(single, max_size=4),
        "g": st.none() | st.binary(max_size=20),
        "h": st.none() | st.text(max_size=3),
    }
)


def columns_of(rows: list[dict[str, Any]]) -> list[Column]:
    """Make the columns as the log does."""
    by_name = {name: [one[name] for one in rows] for name in KINDS}
    there = {name: np.array([v is not None for v in values]) for name, values in by_name.items()}
    flat = [number for values in by_name["f"] for number in values or ()]
    sizes = [len(values or ()) for values in by_name["f"]]
    numbers = np.array([value or 0 for value in by_name["e"]], np.float32)
    return [
        arrow_stream.texts(by_name["a"]),
        *(arrow_stream.integers(by_name[name], KINDS[name]) for name in "bcd"),
        arrow_stream.floats(numbers, there["e"]),
        arrow_stream.lists(sizes, np.array(flat, np.float32), there["f"]),
        arrow_stream.binaries(by_name["g"]),
        arrow_stream.texts(by_name["h"]),
    ]


def read(stream: Stream, *batches: list[Column]) -> pa.Table:
    pieces = [piece for columns in batches for piece in stream.batch(columns)]
    table = pa.ipc.open_stream(b"".join([stream.begin, *pieces, END])).read_all()
    table.validate(full=True)
    return table


@given(st.lists(row, min_size=1, max_size=20), st.lists(row, min_size=1, max_size=3))
def test_arrow_reads_what_was_written(first: list[dict[str, Any]], more: list[Any]) -> None:
    table = read(Stream(KINDS), columns_of(first), columns_of(more))

    assert table.to_pylist() == first + more


def test_the_schema_is_that_of_the_log() -> None:
    features = ["brightness", "é"]

    begin = Stream(requests.columns(features)).begin

    assert pa.ipc.open_stream(begin + END).schema == requests.schema(features)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 300])
def test_equal_and_missing_values_fill_a_column(rows: int) -> None:
    stream = Stream(KINDS)
    given: dict[str, Any] = {"a": "é", "b": 1, "c": -1, "d": 2**40, "h": ""}

    nothing = read(stream, [same(None, rows, kind) for kind in KINDS.values()])
    equal = read(stream, [same(given.get(name), rows, kind) for name, kind in KINDS.items()])

    assert nothing.to_pylist() == [dict.fromkeys(KINDS)] * rows
    assert equal.to_pylist() == [{name: given.get(name) for name in KINDS}] * rows


def test_only_small_columns_are_kept_for_the_next_batch() -> None:
    assert same("predict", KEPT_ROWS, "string") is same("predict", KEPT_ROWS, "string")
    assert same("predict", KEPT_ROWS + 1, "string") is not same("predict", KEPT_ROWS + 1, "string")


def test_large_values_are_not_copied() -> None:
    large = [memoryview(bytes([n]) * (2 * JOINED_BYTES + n)) for n in range(3)]

    column = arrow_stream.binaries([large[0], None, *large[1:]])

    assert [piece for piece in column.buffers[2] if piece in large] == large
    kind: Kind = "binary"
    assert read(Stream({"x": kind}), [column])["x"].to_pylist() == [large[0], None, *large[1:]]


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OverflowError):
        column_of([2**15], "int16")
