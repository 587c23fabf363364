"""Rows of a table become the same numbers in training, in verification and in serving."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from mlstack.errors import DataError
from mlstack.inputs import preprocess, tables
from mlstack.inputs.tables import OTHER, Row, TableSpec

NUMBERS = st.one_of(
    st.none(),
    st.integers(-(2**53), 2**53),
    st.floats(-1e30, 1e30, allow_subnormal=False),
)
TEXTS = st.one_of(st.none(), st.sampled_from(["Bern", "Genf", "Zug", 'Ç, "x"', "<b>"]))
ROW = st.fixed_dictionaries({"age": NUMBERS, "city": TEXTS, "member": st.none() | st.booleans()})
ROWS = st.lists(ROW, min_size=1, max_size=20)
SPEC = TableSpec(
    numbers={"age": 41.5}, categories={"city": ["Bern", "Genf"], "member": ["false", "true"]}
)
WHOLE: Row = {"age": 30, "city": "Bern", "member": True}


def as_sent(row: Row) -> Row:
    """What a server reads after a client has sent a row."""
    return tables.decode_row(json.dumps(row).encode())


@given(ROWS)
def test_a_row_sent_as_json_is_encoded_bit_for_bit_as_in_training(rows: list[Row]):
    stored = json.loads(json.dumps(SPEC.to_json()))

    trained = SPEC.encode(rows)
    served = preprocess.from_json(stored).encode([as_sent(row) for row in rows])

    assert trained.dtype == served.dtype == np.float32
    assert trained.tobytes() == served.tobytes()


@given(ROWS)
def test_a_row_is_encoded_alone_as_in_a_batch(rows: list[Row]):
    together = SPEC.encode(rows)

    alone = np.concatenate([SPEC.encode([row]) for row in rows])

    assert together.tobytes() == alone.tobytes()


@given(ROWS)
def test_every_encoded_row_is_finite_and_of_the_width_that_was_said(rows: list[Row]):
    encoded = SPEC.encode(rows)

    assert encoded.shape == (len(rows), SPEC.width)
    assert np.isfinite(encoded).all()


@given(ROWS)
def test_what_was_encoded_can_be_described_again_but_for_filled_numbers(rows: list[Row]):
    described = SPEC.describe(rows)
    filled = np.where(np.isnan(described[:, :1]), np.float32(41.5), described[:, :1])

    again = SPEC.narrow(SPEC.widen(described))

    np.testing.assert_array_equal(again, np.concatenate([filled, described[:, 1:]], axis=1))


@pytest.mark.parametrize("name", tables.NAMES)
@settings(deadline=None)  # it writes and reads files, which takes as long as the disk is busy
@given(rows=ROWS)
@example(rows=[{**WHOLE, "age": -0.0}])
def test_a_row_read_from_a_file_is_encoded_as_the_one_that_was_written(
    name: str, rows: list[Row], tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("table") / name
    fields = [("age", pa.float64()), ("city", pa.string()), ("member", pa.bool_())]
    given_rows = [{**row, "age": None if row["age"] is None else float(row["age"])} for row in rows]
    table = pa.Table.from_pylist(given_rows, schema=pa.schema(fields))
    if name.endswith(".csv"):
        pa.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)

    read = tables.read(path).to_pylist()

    # A column of which nothing is known has no type in CSV; any other one comes back whole.
    assert SPEC.encode(read).tobytes() == SPEC.encode(given_rows).tobytes()


def test_an_unseen_text_has_a_code_of_its_own_and_a_missing_one_has_none():
    rows = [{**WHOLE, "city": city} for city in ("Bern", "Genf", "Atlantis", OTHER, None)]

    encoded = SPEC.encode(rows)[:, 1:4]

    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]]
    np.testing.assert_array_equal(encoded, expected)


@pytest.mark.parametrize("word", ["", "NA", "nan", "NULL"])
def test_what_an_empty_cell_may_say_is_missing_in_a_served_row_too(word: str, tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text(f"age,city,member\n30,Bern,true\n{word},{word},true\n")
    trained = SPEC.encode(tables.read(path).to_pylist())

    served = SPEC.encode([as_sent(WHOLE), as_sent({"age": word, "city": word, "member": True})])

    assert served.tobytes() == trained.tobytes()
    assert math.isnan(SPEC.describe([{**WHOLE, "city": word}])[0, 1])


@pytest.mark.parametrize("known", [["false", "true"], ["False", "True"], ["FALSE", "TRUE"]])
def test_true_and_false_are_known_however_a_client_or_pandas_writes_them(known: list[str]):
    spec = TableSpec({}, {"member": known})
    spellings = [False, "false", "False", "FALSE", True, "true", "True", "TRUE", "tRUE"]

    described = spec.describe([{"member": one} for one in spellings])

    assert described[:, 0].tolist() == [0] * 4 + [1] * 4 + [2]
    several = TableSpec({}, {"member": ["True", "no", "true"]})  # where they are two texts
    assert several.describe([{"member": one} for one in ("True", True, "TRUE")]).T.tolist() == [
        [0, 2, 3]
    ]


def test_an_empty_text_is_never_learned_and_still_known_where_it_once_was():
    rows = [{"age": 1, "city": city} for city in ("Bern", "", "Zug")]

    spec = tables.learn(rows, ["age", "city"])

    assert spec.categories == {"city": ["Bern", "Zug"]}
    assert spec.encode(rows)[1].tolist() == [1, 0, 0, 0]
    older = TableSpec({}, {"city": ["", "NA"]})
    assert older.describe([{"city": ""}, {"city": "NA"}, {"city": None}])[:2, 0].tolist() == [0, 1]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_a_table_is_read_whatever_mark_stands_between_its_values(mark: str, tmp_path: Path):
    path = tmp_path / "table.csv"
    lines = [["a,; name", "age", "city"], ["1", "2.5", "Zug"], ["3", "", "a;b,c|d\te"]]
    quoted = [mark.join(f'"{cell}"' if len(cell) > 5 else cell for cell in line) for line in lines]
    path.write_text("\n".join(quoted))

    table = tables.read(path)

    assert table.to_pylist() == [
        {"a,; name": 1, "age": 2.5, "city": "Zug"},
        {"a,; name": 3, "age": None, "city": "a;b,c|d\te"},
    ]


def test_numbers_between_semicolons_may_have_a_decimal_comma_and_stay_numbers_in_quotes(
    tmp_path: Path,
):
    path = tmp_path / "table.csv"
    path.write_text('"age";"city";"sum"\n"2,5";"Zug";"1.234"\n"";"";"999"\n"-3";"Bern";"1"\n')

    table = tables.read(path)

    assert table["age"].to_pylist() == [2.5, None, -3.0]
    assert table["city"].to_pylist() == ["Zug", "", "Bern"]
    assert table["sum"].to_pylist() == ["1.234", "999", "1"]  # a thousand, or one and a bit?


def test_a_line_of_several_megabytes_is_read(tmp_path: Path):
    """Where only one cell is that long, and where it comes late."""
    path, long = tmp_path / "table.csv", "long " * 500_000
    path.write_text("age,text\n" + "1,short\n" * 200_000 + f"2,{long}\n3,end\n")

    table = tables.read(path)

    assert table.num_rows == 200_002
    assert table["age"].to_pylist()[-2:] == [2, 3]
    assert table["text"].to_pylist()[-2:] == [long, "end"]


def test_a_missing_number_is_the_mean_of_the_training_rows():
    rows = [{"age": 20, "city": "Bern"}, {"age": 40, "city": "Zug"}, {"age": None, "city": "Zug"}]

    spec = tables.learn(rows, ["age", "city"])

    assert spec == TableSpec({"age": 30.0}, {"city": ["Bern", "Zug"]})
    assert spec.encode(rows)[2].tolist() == [30, 0, 1, 0]
    assert math.isnan(spec.describe(rows)[2, 0])


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("age", "31", "needs a number, got the text `31`"),
        ("age", True, "needs a number, got the truth value `True`"),
        ("age", [1], "needs a number, got a list `[1]`"),
        ("age", 1e39, "is too large or not finite"),
        ("age", 10**400, "is too large or not finite"),
        ("age", -math.inf, "is too large or not finite"),
        ("city", 3, "needs a text, got `3`"),
        ("city", {}, "needs a text, got an object `{}`"),
    ],
)
def test_a_wrong_value_is_named_by_its_row_and_column(column: str, value: Any, said: str):
    with pytest.raises(DataError, match=f"row 2, column `{column}`") as found:
        SPEC.encode([WHOLE, {**WHOLE, column: value}])

    assert said in found.value.problem
    assert found.value.where == f"rows[1].{column}"


def test_a_column_that_is_not_there_is_named_and_further_ones_are_ignored():
    further = {**WHOLE, "id": "u1"}
    assert SPEC.encode([further]).tobytes() == SPEC.encode([WHOLE]).tobytes()

    del further["city"]
    with pytest.raises(DataError, match="row 1 has no column `city`") as found:
        SPEC.encode([further])

    assert found.value.where == "rows[0].city"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([None, None], "is empty in the training rows"),
        ([1, "x"], "needs a number"),
        (["x", 1], "needs a text"),
        ([f"u{i}" for i in range(tables.MOST_VALUES + 1)], "201 different texts"),
    ],
)
def test_a_column_nothing_can_be_learned_from_is_refused(values: list[Any], said: str):
    with pytest.raises(DataError, match=said):
        tables.learn([{"x": value} for value in values], ["x"])


def test_a_column_cannot_have_the_name_of_what_is_monitored_beside_it():
    with pytest.raises(DataError, match="cannot be called `confidence`"):
        tables.learn([{"confidence": 1}], ["confidence"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not a table"),
        ("a,b\n", "has no rows"),
        ("a,a\n1,2\n", "has the column `a` twice"),
        ("a,b\n1,2\n3\n", "is not a table"),
        ("a\n\xff\n".encode("latin-1"), "x"),
    ],
)
def test_a_file_that_is_no_table_is_named(content: str | bytes, said: str, tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(DataError) as found:
        tables.read(path)

    assert said in found.value.problem


def test_what_spreadsheets_call_unicode_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes("town\tlabel\nZürich\ta\n".encode("utf-16"))

    with pytest.raises(DataError, match="is text in UTF-16") as found:
        tables.read(tmp_path / "table.csv")

    assert found.value.hint == "save it as CSV in UTF-8"


def test_a_table_in_latin_1_is_told_to_be_saved_as_utf_8(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_bytes("town,n\nZürich,1\n".encode("latin-1"))

    with pytest.raises(DataError, match=r"column `town` of .* is not UTF-8 text") as found:
        tables.read(path)

    assert found.value.hint == "save it as CSV in UTF-8"


@pytest.mark.parametrize(
    "name", ["age", "", "a, b", "no", "a: b", "1", "größe", "[x]", "it's", "#"]
)
def test_what_is_said_to_type_ignores_the_column_whatever_its_name(name: str):
    typed = tables.leave_out(name).split("`")[1].removeprefix("data.args.ignore: ")

    assert YAML(typ="safe").load(typed) == [name]


def test_times_are_read_as_text(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("when,n\n2026-01-02,1\n2026-01-03,2\n")

    assert tables.read(path).to_pylist()[0] == {"when": "2026-01-02", "n": 1}


def test_equal_rows_have_equal_names_whatever_their_label():
    rows = [{"a": 1, "y": "no"}, {"a": 1, "y": "yes"}, {"a": 2, "y": "no"}]

    first, second, third = tables.contents(rows, "y")

    assert first == second != third


@pytest.mark.parametrize(
    "stored",
    [
        {"kind": "table", "numbers": {"age": 3.0}},
        {"kind": "table", "numbers": {"age": "3"}, "categories": {}},
        {"kind": "table", "numbers": ["age"], "categories": {}},
        {"kind": "table", "numbers": {}, "categories": {"city": "Bern"}},
        {"kind": "image", "height": 8.5, "width": 8, "channels": 3, "resize": "bilinear"},
        {"kind": "image", "height": 8, "width": 8, "channels": 2, "resize": "bilinear"},
        {"kind": "image", "height": 8, "width": 8, "channels": 3, "resize": ["bilinear"]},
        {"kind": "text", "column": "body", "length": "8", "tokenizer": {}},
        {"kind": "text", "column": "body", "length": 1 << 40, "tokenizer": {}},
        {"kind": "text", "column": "body", "length": 8},
        {"kind": ["table"]},
        {},
    ],
)
def test_what_a_package_keeps_of_its_inputs_is_not_trusted(stored: dict) -> None:
    with pytest.raises(DataError, match=r"cannot preprocess|are not read"):
        preprocess.from_json(stored)


def test_a_row_nested_too_deeply_is_refused() -> None:
    with pytest.raises(DataError, match="not a row"):
        tables.decode_row(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_what_is_no_row_is_told_the_columns_of_this_model(tmp_path: Path) -> None:
    few = TableSpec({"age": 1.0}, {'größe "x"': ["S"]})
    many = TableSpec({name: 0.0 for name in "abcdef"}, {})
    (tmp_path / "a.csv").write_text("age\n3\n")

    with pytest.raises(DataError, match="not a row") as refused:
        preprocess.load(tmp_path / "a.csv", few)

    assert refused.value.hint == 'a row is JSON such as {"age": ..., "größe \\"x\\"": ...}'
    assert tables.such_as(many.fields).endswith('"d": ..., ...}')
