"""The division that the stage `prepare` keeps is the one that every run would make."""

import json

import pytest

from mlstack.config import load
from mlstack.errors import DataError
from mlstack.launch import dataset, division, examples
from mlstack.records.prepared import Prepared


def made_anew(project):
    hashed = dataset.hash_source(project)
    folder = dataset.source_folder(project)
    return examples.prepare(folder, project.config, hashed.entries)


def test_what_was_prepared_is_what_training_would_make_itself(project) -> None:
    here = load(project / "mlstack.yaml")
    expected, classes = made_anew(here)

    prepared = division.write(here)
    table, names = division.divided(here, dataset.hash_source(here))

    assert table.equals(expected)
    assert names == classes
    assert prepared.split == {"train": 240, "val": 30, "test": 30}
    assert sum(one.train + one.val + one.test for one in prepared.counts) == 300


def test_training_reads_what_was_prepared(project) -> None:
    here = load(project / "mlstack.yaml")
    division.write(here)
    marked = project / ".mlstack" / "prepared" / "summary.json"
    summary = json.loads(marked.read_text())
    marked.write_text(json.dumps(summary | {"classes": summary["classes"][::-1]}))

    _, classes = division.divided(here, dataset.hash_source(here))

    assert classes == list("9876543210")


def test_paths_follow_a_project_that_moved(project, tmp_path) -> None:
    division.write(load(project / "mlstack.yaml"))
    moved = project.rename(tmp_path / "elsewhere")
    here = load(moved / "mlstack.yaml")

    table, _ = division.divided(here, dataset.hash_source(here))

    assert table.equals(made_anew(here)[0])
    assert table["path"][0].as_py().startswith(str(moved))


@pytest.mark.parametrize(
    "damage",
    [
        lambda root: (root / ".mlstack/prepared/summary.json").write_text("{"),
        lambda root: (root / ".mlstack/prepared/summary.json").unlink(),
        lambda root: (root / ".mlstack/prepared/examples.parquet").write_bytes(b"PAR1"),
        lambda root: (root / ".mlstack/prepared/examples.parquet").unlink(),
        lambda root: (root / "data/digits/images/0000.png").write_bytes(b"x"),
        lambda root: (root / "mlstack.yaml").write_text(
            (root / "mlstack.yaml").read_text().replace("seed: 17", "seed: 18")
        ),
    ],
)
def test_what_was_prepared_is_left_alone_when_it_is_damaged_or_of_something_else(
    project, damage
) -> None:
    division.write(load(project / "mlstack.yaml"))
    damage(project)
    here = load(project / "mlstack.yaml")

    table, _ = division.divided(here, dataset.hash_source(here))

    assert table.equals(made_anew(here)[0])


def test_a_setting_that_does_not_decide_the_division_does_not_make_it_stale(project) -> None:
    division.write(load(project / "mlstack.yaml"))
    other = load(project / "mlstack.yaml", sets=("train.epochs=1", "data.args={image_size: 8}"))

    kept = division._kept(other, dataset.hash_source(other))

    assert kept is not None


def test_data_that_is_in_no_snapshot_is_not_prepared(project) -> None:
    (project / "data/digits/images/0000.png").write_bytes(b"x")

    with pytest.raises(DataError, match="is not snapshotted"):
        division.write(load(project / "mlstack.yaml"))


def test_copies_are_counted(project) -> None:
    here = load(project / "mlstack.yaml")

    prepared = division.write(here)

    assert isinstance(prepared, Prepared)
    assert prepared.copies == 300 - len(set(dataset.hash_source(here).entries.values())) + 1
