"""The rows of a table as the examples of a run."""

from pathlib import Path

import pytest

from mlstack.config.schema import Config
from mlstack.errors import ConfigError, DataError
from mlstack.inputs import tables
from mlstack.launch import examples


def config(**data: object) -> Config:
    return Config.model_validate(
        {
            "version": 1,
            "project": {"name": "t", "task": "tabular"},
            "data": {"source": "data/t", "label": "y", **data},
            "model": {"class": "m:M"},
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hundred different rows, each there twice with another label: noise, not a mistake."""
    lines = [f"{i},{i % 7},{label}" for i in range(100) for label in ("no", "yes")]
    (tmp_path / "table.csv").write_text("a,team,y\n" + "\n".join(lines) + "\n")
    return tmp_path


def test_equal_rows_stay_in_one_part_and_may_differ_in_their_label(folder: Path):
    found, classes = examples.prepare(folder, config(), {})

    rows = tables.select(found)
    parts: dict[int, set[str]] = {}
    for row, part in zip(rows, found["split"].to_pylist(), strict=True):
        parts.setdefault(row["a"], set()).add(part)
    assert classes == ["no", "yes"]
    assert [row["y"] for row in rows] == found["label"].to_pylist()
    assert all(len(one) == 1 for one in parts.values())
    assert {p for one in parts.values() for p in one} == {"train", "val", "test"}


def test_a_row_keeps_its_part_when_rows_are_added_before_it(folder: Path):
    before = dict(parts_of(folder))
    path = folder / "table.csv"
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, "500,1,no", "500,1,yes", *lines]) + "\n")

    after = dict(parts_of(folder))

    moved = [a for a, part in before.items() if after[a] != part]
    assert len(moved) <= 3


def parts_of(folder: Path) -> list[tuple[int, str]]:
    found, _ = examples.prepare(folder, config(), {})
    pairs = zip(tables.select(found), found["split"].to_pylist(), strict=True)
    return [(row["a"], part) for row, part in pairs]


def test_rows_of_one_group_stay_together(folder: Path):
    found, _ = examples.prepare(folder, config(split={"group_by": "team"}), {})

    pairs = set(zip(found["team"].to_pylist(), found["split"].to_pylist(), strict=True))
    assert len(pairs) == 7


def test_rows_without_a_label_are_named(folder: Path):
    with (folder / "table.csv").open("a") as table:
        table.write("7,7,\n")

    with pytest.raises(DataError) as found:
        examples.prepare(folder, config(), {})

    assert [one.problem for one in found.value.mistakes] == ["row 201 has no label"]


@pytest.mark.parametrize(
    ("ignored", "hint"),
    [
        (["a", "taem"], "did you mean `team`?"),
        (["xyz"], "it has a, team, y"),
        ("team", "write [team]"),
    ],
)
def test_columns_to_ignore_that_are_not_there_are_refused(folder: Path, ignored: object, hint: str):
    with pytest.raises(ConfigError, match=r"data\.args\.ignore") as found:
        examples.prepare(folder, config(args={"ignore": ignored}), {})

    assert found.value.hint == hint


def test_a_column_of_which_nearly_every_row_differs_is_no_class(folder: Path):
    with pytest.raises(DataError) as found:
        examples.prepare(folder, config(label="a"), {})

    assert "`a` of `table.csv` holds 100 different values in 200 rows" in found.value.problem
    assert found.value.hint.endswith("there is team, y")


def test_a_missing_label_column_is_a_mistake_of_the_config(folder: Path):
    with pytest.raises(ConfigError, match="no column `z`") as found:
        examples.prepare(folder, config(label="z"), {})

    assert "a, team, y" in found.value.hint


def test_a_missing_column_of_groups_is_told_the_columns_of_the_table(folder: Path):
    with pytest.raises(ConfigError, match=r"group_by: .* has no column `z`") as found:
        examples.prepare(folder, config(split={"group_by": "z"}), {})

    assert "a, team, y" in found.value.hint


def test_a_label_of_decimal_numbers_is_no_class(tmp_path: Path):
    (tmp_path / "table.csv").write_text("a,y\n1,0.5\n2,0.7\n")

    with pytest.raises(DataError, match="decimal numbers, not classes"):
        examples.prepare(tmp_path, config(), {})


def test_a_table_that_became_shorter_than_its_run_is_refused(folder: Path):
    found, _ = examples.prepare(folder, config(), {})
    (folder / "table.csv").write_text("a,team,y\n1,1,no\n")

    with pytest.raises(DataError, match="fewer than when the run was planned"):
        tables.select(found)
