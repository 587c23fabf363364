"""The table of a run with its features."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlstack.config.schema import Config
from mlstack.errors import DataError
from mlstack.inputs import tables
from mlstack.launch import examples, rows
from mlstack.records import data_folder


def config(**data: object) -> Config:
    features = {"key": "who", "time": "at", "files": ["spend.parquet"], "ttl": "1d12h"}
    return Config.model_validate(
        {
            "version": 1,
            "project": {"name": "t", "task": "tabular"},
            "data": {"source": "data/t", "label": "y", "features": features, **data},
            "model": {"class": "m:M"},
        }
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A hundred rows of ten people, on ten days; spending is known of the second day on."""
    folder = tmp_path / "data" / "t"
    folder.mkdir(parents=True)
    lines = [f"{i % 10},2026-01-{i // 10 + 1:02}T12:00:00,{i},{'ab'[i % 2]}" for i in range(100)]
    (folder / "table.csv").write_text("who,at,own,y\n" + "\n".join(lines) + "\n")
    write_spend(folder, 1.0)
    return tmp_path


def write_spend(folder: Path, factor: float) -> None:
    who = [*range(10)]
    columns = {"who": who, "at": [dt.datetime(2026, 1, 2)] * 10, "spend": [factor * w for w in who]}
    pq.write_table(pa.table(columns), folder / "spend.parquet")


def joined(root: Path, settings: Config) -> Path:
    hashed = data_folder.hash_folder(root / "data" / "t")
    wide = rows.joined(root, settings.data, hashed.entries)
    assert wide is not None
    return wide


def test_examples_are_rows_of_the_joined_table(root: Path):
    wide = joined(root, config())

    found, classes = examples.prepare(root / "data" / "t", config(), {}, wide)

    chosen = tables.select(found)
    assert classes == ["a", "b"]
    assert [row["own"] for row in chosen] == list(range(100))
    assert [row["y"] for row in chosen] == found["label"].to_pylist()
    assert set(chosen[0]) == {"own", "y", "spend"}
    days = [[row["spend"] for row in chosen[day * 10 : day * 10 + 10]] for day in range(4)]
    assert days == [[None] * 10, [*range(10)], [*range(10)], [None] * 10]  # 36 h are not older


def test_the_same_content_is_joined_once(root: Path):
    first = joined(root, config())
    before = first.stat().st_mtime_ns

    assert joined(root, config()) == first
    assert first.stat().st_mtime_ns == before


def test_another_value_or_another_setting_is_another_table(root: Path):
    first = joined(root, config())
    write_spend(root / "data" / "t", 2.0)

    assert joined(root, config()) != first


def test_rows_of_one_key_may_stay_in_one_part(root: Path):
    settings = config(split={"group_by": "who", "stratify": False})

    found, _ = examples.prepare(root / "data" / "t", settings, {}, joined(root, settings))

    parts: dict[int, set[str]] = {}
    for who, part in zip(found["who"].to_pylist(), found["split"].to_pylist(), strict=True):
        parts.setdefault(who, set()).add(part)
    assert all(len(one) == 1 for one in parts.values())


def test_a_project_without_features_joins_nothing(root: Path):
    assert rows.joined(root, config(features=None).data, {}) is None


def test_a_feature_file_that_is_not_there_is_named(root: Path):
    (root / "data" / "t" / "spend.parquet").unlink()

    with pytest.raises(DataError, match=r"spend\.parquet"):
        joined(root, config())
