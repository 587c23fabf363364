"""What `train compare` says of the data of two runs."""

from pathlib import Path

import pyarrow as pa
import pytest

from mlstack.records import base, dataset
from mlstack.records.dataset import DatasetVersion
from mlstack.records.run import SPEC, CodeVersion, Environment, RunSpec
from mlstack.train.differences import data_change, data_line

Rows = list[tuple[str, str, str]]  # path or row, label, part


def lay_out(folder: Path, md5: str, rows: Rows, *, table: bool = False) -> RunSpec:
    spec = RunSpec(
        id=folder.name,
        created="2026-01-02T03:04:05Z",
        root=str(folder),  # projects may lie in different places
        command=[],
        config={},
        dataset=DatasetVersion(name="d", source="data/d", md5=md5),
        code=CodeVersion(),
        environment=Environment(python="3", platform="test", cpu_count=1),
        seed=1,
        classes=["a", "b"],
    )
    folder.mkdir()
    base.write(folder / SPEC, spec)
    names, labels, parts = (list(column) for column in zip(*rows, strict=True))
    source = folder / "data" / "d"
    paths = [str(source / ("table.parquet" if table else name)) for name in names]
    columns = {
        "path": paths,
        "label": labels,
        "target": pa.array(["ab".index(label) for label in labels], pa.int32()),
        "split": parts,
    }
    if table:
        columns["row"] = pa.array([int(name) for name in names], pa.int64())
    dataset.write_examples(folder / dataset.EXAMPLES, pa.table(columns))
    return spec


FIRST: Rows = [("1.png", "a", "train"), ("2.png", "a", "train"), ("3.png", "b", "val")]


def test_examples_are_counted_by_what_became_of_them(tmp_path):
    first = lay_out(tmp_path / "one", "aaaaaaaaaa", FIRST)
    lay_out(
        tmp_path / "two",
        "bbbbbbbbbb",
        [("1.png", "b", "train"), ("3.png", "b", "train"), ("4.png", "b", "val")],
    )

    change = data_change(tmp_path / "one", tmp_path / "two")

    assert (change.added, change.removed, change.relabeled, change.moved) == (1, 1, 1, 1)
    assert change.parts == {"train": [2, 2], "val": [1, 1], "test": [0, 0]}
    assert change.classes == {"a": [2, 0], "b": [1, 3]}
    assert data_line(change, first) == (
        "aaaaaaaa -> bbbbbbbb: 1 examples added, 1 removed, 1 labeled anew, 1 in another part"
    )


def test_the_same_data_divided_otherwise_is_told(tmp_path):
    first = lay_out(tmp_path / "one", "aaaaaaaaaa", FIRST)
    lay_out(tmp_path / "two", "aaaaaaaaaa", [*FIRST[:2], ("3.png", "b", "test")])

    line = data_line(data_change(tmp_path / "one", tmp_path / "two"), first)

    assert line.startswith("same files, aaaaaaaa")
    assert line.endswith("1 in another part")


@pytest.mark.parametrize("table", [False, True])
def test_equal_data_is_said_to_be_the_same(tmp_path, table):
    rows = [(str(number), "a", "train") for number in range(3)]
    first = lay_out(tmp_path / "one", "aaaaaaaaaa", rows, table=table)
    lay_out(tmp_path / "two", "aaaaaaaaaa", rows, table=table)

    change = data_change(tmp_path / "one", tmp_path / "two")

    assert data_line(change, first) == "same data, aaaaaaaa"


def test_the_rows_of_a_table_are_counted_not_paired(tmp_path):
    rows = [(str(number), "ab"[number % 2], "train") for number in range(10)]
    first = lay_out(tmp_path / "one", "aaaaaaaaaa", rows, table=True)
    lay_out(tmp_path / "two", "bbbbbbbbbb", rows[:7], table=True)

    change = data_change(tmp_path / "one", tmp_path / "two")

    assert change.added is None
    assert change.classes == {"a": [5, 4], "b": [5, 3]}
    assert data_line(change, first) == "aaaaaaaa -> bbbbbbbb: 10 -> 7 rows"
