"""Generated examples only ever stand in train, and only as many as were asked for."""

from pathlib import Path

import pyarrow as pa
import pytest

from mlstack.config import load
from mlstack.errors import ConfigError, DataError
from mlstack.launch import examples
from mlstack.records.dataset import LABELS, write_labels

REAL, MADE = 100, 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Labels of 100 real files in 50 groups, and 60 generated ones in other groups."""
    names = [f"real-{n}.png" for n in range(REAL)] + [f"made-{n}.png" for n in range(MADE)]
    lay_out(tmp_path, names, groups=[n // 2 for n in range(REAL)] + [1000 + n for n in range(MADE)])
    return tmp_path


def lay_out(folder: Path, names: list[str], *, groups: list[int], synthetic: object = None) -> None:
    made = [name.startswith("made") for name in names] if synthetic is None else synthetic
    table = pa.table(
        {
            "path": names,
            "label": ["ab"[n % 2] for n in range(len(names))],
            "group": groups,
            "synthetic": made,
        }
    )
    write_labels(folder / LABELS, table)


def prepared(project: Path, folder: Path, *sets: str, md5s: dict[str, str] | None = None):
    config = load(project / "mlstack.yaml", sets=sets).config
    names = [f"real-{n}.png" for n in range(REAL)] + [f"made-{n}.png" for n in range(MADE)]
    return examples.prepare(folder, config, md5s or {name: f"md5 of {name}" for name in names})


def parts(table: pa.Table) -> dict[str, str]:
    names = [Path(path).name for path in table["path"].to_pylist()]
    return dict(zip(names, table["split"].to_pylist(), strict=True))


def test_without_being_asked_for_they_are_left_out(project: Path, folder: Path) -> None:
    table, classes = prepared(project, folder)

    found = parts(table)
    assert len(found) == REAL and not any(name.startswith("made") for name in found)
    assert classes == ["a", "b"]


@pytest.mark.parametrize(("fraction", "count"), [("0.2", 20), ("0.01", 1), ("0.9", 60), ("1", 60)])
def test_they_are_a_share_of_train_and_of_nothing_else(
    project: Path, folder: Path, fraction: str, count: int
) -> None:
    without = parts(prepared(project, folder)[0])

    found = parts(prepared(project, folder, f"data.synthetic.fraction={fraction}")[0])

    made = {name: part for name, part in found.items() if name.startswith("made")}
    assert len(made) == count and set(made.values()) == {"train"}
    assert {n: p for n, p in found.items() if n not in made} == without


def test_what_was_made_of_an_example_of_val_or_test_is_left_out(
    project: Path, folder: Path
) -> None:
    names = [f"real-{n}.png" for n in range(REAL)] + [f"made-{n}.png" for n in range(MADE)]
    lay_out(folder, names, groups=[n // 2 for n in range(REAL)] + list(range(50)) + [0] * 10)

    table, _ = prepared(project, folder, "data.synthetic.fraction=1", "data.split.group_by=group")

    rows = table.to_pylist()
    held_out = {row["group"] for row in rows if row["split"] != "train"}
    made = [row for row in rows if row["synthetic"]]
    assert held_out and made
    assert not held_out & {row["group"] for row in made}


def test_a_copy_of_an_example_of_test_is_left_out(project: Path, folder: Path) -> None:
    real = parts(prepared(project, folder)[0])
    tested = next(name for name, part in real.items() if part == "test")
    same = next(f"made-{n}.png" for n in range(MADE) if n % 2 == int(tested[5:-4]) % 2)
    names = [f"real-{n}.png" for n in range(REAL)] + [f"made-{n}.png" for n in range(MADE)]
    md5s = {name: f"md5 of {name}" for name in names} | {same: f"md5 of {tested}"}

    table, _ = prepared(project, folder, "data.synthetic.fraction=1", md5s=md5s)

    found = parts(table)
    assert same not in found and len(found) == REAL + MADE - 1


def test_a_class_that_was_only_generated_is_named(project: Path, folder: Path) -> None:
    table = pa.table(
        {
            "path": [f"real-{n}.png" for n in range(REAL)] + ["made-0.png"],
            "label": ["ab"[n % 2] for n in range(REAL)] + ["c"],
            "synthetic": [False] * REAL + [True],
        }
    )
    write_labels(folder / LABELS, table)

    with pytest.raises(DataError) as raised:
        prepared(project, folder)

    assert "label `c` (1 examples) is not that of any real example" in str(raised.value.mistakes)


def test_a_share_of_nothing_is_an_error_and_so_is_a_column_of_texts(
    project: Path, folder: Path, tmp_path: Path
) -> None:
    names = [f"real-{n}.png" for n in range(REAL)]
    lay_out(folder, names, groups=[0] * REAL, synthetic=["no"] * REAL)
    with pytest.raises(ConfigError, match="not true and false"):
        prepared(project, folder)

    plain = pa.table({"path": names, "label": ["ab"[n % 2] for n in range(REAL)]})
    write_labels(folder / LABELS, plain)
    with pytest.raises(ConfigError, match="no column `synthetic`"):
        prepared(project, folder, "data.synthetic.fraction=0.5")
