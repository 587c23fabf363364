"""What is learned and encoded of a table is what its rows would give, to the bit."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlstack.errors import DataError
from mlstack.inputs import columns, tables

NUMBERS = st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(math.nan))
KINDS = {
    "whole": (pa.int64(), st.one_of(st.none(), st.integers(-(2**60), 2**60))),
    "number": (pa.float64(), NUMBERS),
    "text": (pa.string(), st.one_of(st.none(), st.sampled_from(["", "a", "b", "ü", "true", "NA"]))),
    "flags": (pa.string(), st.one_of(st.none(), st.sampled_from(["true", "False", "TRUE"]))),
    "flag": (pa.bool_(), st.one_of(st.none(), st.booleans())),
}


@st.composite
def a_table(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 20))
    made = {
        name: pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), kind)
        for name, (kind, values) in KINDS.items()
    }
    return pa.table(made)


def outcome(work, *given_):
    """Give what comes out, or what is said to be wrong."""
    try:
        return work(*given_)
    except DataError as error:
        return error.problem, error.where


@settings(max_examples=150, deadline=None)
@given(train=a_table(), other=a_table())
def test_tables_and_rows_give_the_same(train: pa.Table, other: pa.Table) -> None:
    by_rows = outcome(tables.learn, train.to_pylist(), list(KINDS))

    by_columns = outcome(columns.learn, train, list(KINDS))

    assert by_columns == by_rows
    if isinstance(by_rows, tables.TableSpec):
        for one in (train, other):
            expected = by_rows.encode(one.to_pylist())
            found = columns.encode(by_rows, one)
            assert found.dtype == np.float32 and np.array_equal(found, expected)


SPEC = tables.TableSpec({"age": 3.0}, {"city": ["Bern", "Ulm"]})


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"age": [1.0, 2.0]}, "row 1 has no column `city`"),
        ({"age": ["1", "2"], "city": ["Bern", "Ulm"]}, "row 1, column `age`: needs a number"),
        ({"age": [1, 2], "city": [1, 2]}, "row 1, column `city`: needs a text"),
        ({"age": [1.0, math.inf], "city": ["Bern", "Ulm"]}, "row 2, column `age`"),
        ({"age": [1.0, 1e300], "city": ["Bern", "Ulm"]}, "row 2, column `age`"),
    ],
)
def test_what_is_wrong_is_named_by_row_and_column(table: dict[str, list], problem: str) -> None:
    with pytest.raises(DataError) as raised:
        columns.encode(SPEC, pa.table(table))

    assert raised.value.problem.startswith(problem)


def test_columns_that_are_missing_everywhere_are_filled() -> None:
    table = pa.table({"age": pa.nulls(2), "city": pa.nulls(2)})

    assert columns.encode(SPEC, table).tolist() == [[3.0, 0, 0, 0], [3.0, 0, 0, 0]]


def test_no_rows_are_no_error() -> None:
    table = pa.table({"age": pa.array([], pa.float64()), "city": pa.array([], pa.string())})

    assert columns.encode(SPEC, table).shape == (0, 4)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"prediction": [1.0]}, "cannot be called"),
        ({"x": pa.nulls(3)}, "is empty"),
        ({"x": [math.nan, math.nan]}, "is empty"),
        ({"x": [str(n) for n in range(300)]}, "300 different texts"),
        ({"x": [1.0, math.inf]}, "too large or not finite"),
    ],
)
def test_what_cannot_be_learned_is_said_as_rows_say_it(table: dict, problem: str) -> None:
    given_ = pa.table(table)
    with pytest.raises(DataError, match=problem):
        columns.learn(given_, given_.column_names)
