"""Files of rows are read by what the columns are."""

from pathlib import Path

import pytest

from mlstack.errors import DataError
from mlstack.inputs import rowfiles


def test_what_looks_like_a_number_is_text_where_the_column_holds_text(tmp_path: Path) -> None:
    path = tmp_path / "ROWS.CSV"
    path.write_text("zip,age\n01,1\n2,\n")

    rows = rowfiles.read(path, ["zip"], ["age"])

    assert rows == [{"zip": "01", "age": 1}, {"zip": "2", "age": None}]


def test_the_cell_that_is_no_number_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("age,other\n1,a\n,b\nold,c\n")

    with pytest.raises(DataError, match="row 3, column `age`: needs a number, got the text `old`"):
        rowfiles.read(path, [], ["age"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", "", "has no rows"),
        ("a.ndjson", '{"a": 1}\n{"a"\n', "a.ndjson:2: not a row"),
        ("a.csv", "a,b\n", "has no rows"),
        ("a.parquet", "no", "is not a table"),
    ],
)
def test_a_file_without_rows_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)

    with pytest.raises(DataError, match=said):
        rowfiles.read(tmp_path / name, [], [])


def test_a_text_is_a_row_of_a_model_that_reads_one_text(tmp_path: Path) -> None:
    path = tmp_path / "one.TXT"
    path.write_text("Grüße\n", encoding="utf-8-sig")

    assert rowfiles.is_text(path, ["text"], [])
    assert not rowfiles.is_text(path, ["town"], ["age"])
    assert not rowfiles.is_text(path, ["town", "plan"], [])
    assert rowfiles.read_text(path, "text") == {"text": "Grüße\n"}
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        rowfiles.read_text(path, "text")
