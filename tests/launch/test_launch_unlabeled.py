"""Which images a teacher is asked about that nobody labeled."""

from pathlib import Path

import pyarrow as pa
import pytest

from mlstack.config import load
from mlstack.errors import ConfigError, DataError
from mlstack.launch import dataset, division, unlabeled
from mlstack.records.dataset import LABELS, read_labels, write_labels

ASKED = "train.distill={run: teacher, unlabeled: true}"


def found(root: Path, *sets: str) -> tuple[pa.Table | None, pa.Table]:
    project = load(root / "mlstack.yaml", sets=sets)
    hashed = dataset.hash_source(project)
    table, _ = division.divided(project, hashed)
    return unlabeled.found(project, hashed, table), table


def forget(root: Path, count: int) -> list[str]:
    """Take the last labels away; give the names of their files."""
    path = root / "data/digits" / LABELS
    table = read_labels(path)
    write_labels(path, table.slice(0, table.num_rows - count))
    return table["path"].to_pylist()[-count:]


def test_images_that_no_label_names_are_the_pool_and_train_and_val_stay(project: Path) -> None:
    names = forget(project, 20)
    (project / "data/digits/notes.txt").write_text("no image")

    pool, table = found(project, ASKED)

    assert pool is not None
    rows = pool.to_pylist()
    kept = [row for row in table.to_pylist() if row["split"] != "test"]
    assert rows[: len(kept)] == kept
    asked = rows[len(kept) :]
    assert [row["path"] for row in asked] == [str(project / "data/digits" / n) for n in names]
    assert {(row["label"], row["target"], row["split"]) for row in asked} == {("", 0, "test")}


def test_a_copy_of_an_example_is_not_asked_about_and_of_two_copies_one_is(project: Path) -> None:
    names = forget(project, 20)
    folder = project / "data/digits/images"
    example = read_labels(folder.parent / LABELS)["path"].to_pylist()[0]
    (folder / "copy.png").write_bytes((folder.parent / example).read_bytes())
    (folder / "twice.png").write_bytes((folder.parent / names[0]).read_bytes())

    pool, _ = found(project, ASKED)

    assert pool is not None
    asked = [row["path"] for row in pool.to_pylist() if not row["label"]]
    assert asked == [str(folder.parent / name) for name in names]


def test_without_the_setting_there_is_none_and_without_images_it_says_so(project: Path) -> None:
    assert found(project, "train.distill={run: teacher}")[0] is None

    with pytest.raises(DataError, match="every image in `data/digits` has a label"):
        found(project, ASKED)


def test_a_table_has_no_rows_without_a_label(project: Path) -> None:
    config = load(project / "mlstack.yaml", sets=(ASKED, "project.task=tabular", "data.label=x"))

    with pytest.raises(ConfigError, match="the rows of a table all have labels"):
        unlabeled.found(config, dataset.hash_source(config), pa.table({"md5": ["a"]}))
