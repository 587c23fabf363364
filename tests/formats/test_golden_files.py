"""Files written by an older mlstack stay readable: one golden file a format and version."""

import importlib
import pkgutil
import sqlite3
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

import mlstack.records
from mlstack import packed
from mlstack.errors import DataError
from mlstack.packed import Packs
from mlstack.records import base, dataset, evaluation, labels, requests
from mlstack.records.heartbeat import Activity, Heart, read_beat
from mlstack.train import shared
from mlstack.version import chunked
from mlstack.version.chunked import Chunks

GOLDEN = Path(__file__).parent / "golden"
FORMATS = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()


def record_types() -> dict[str, type[base.Record]]:
    """Find every record that crosses rooms, by its kind."""
    found: dict[str, type[base.Record]] = {}
    for module_info in pkgutil.iter_modules(mlstack.records.__path__):
        module = importlib.import_module(f"mlstack.records.{module_info.name}")
        for thing in vars(module).values():
            if isinstance(thing, type) and issubclass(thing, base.Record):
                tag = thing.__struct_config__.tag
                if isinstance(tag, str) and tag not in ("Record", "Notice", "Result"):
                    found[tag] = thing
    return found


TYPES = record_types()


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_a_golden_file_of_each_kind_is_read_and_written_the_same(kind: str):
    golden = (GOLDEN / f"{kind}.v1.json").read_bytes()

    record = base.decode(golden, TYPES[kind], where=kind)

    assert base.encode(record) == golden


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_every_kind_has_its_line_in_the_docs(kind: str):
    assert f"`{kind}`" in FORMATS


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_a_truncated_file_is_refused_with_its_name(kind: str):
    golden = (GOLDEN / f"{kind}.v1.json").read_bytes()

    with pytest.raises(DataError, match=r"some\.json"):
        base.decode(golden[: len(golden) // 2], TYPES[kind], where="some.json")


def test_a_field_that_this_version_does_not_know_is_refused():
    golden = msgspec.json.decode((GOLDEN / "model.live.v1.json").read_bytes())

    with pytest.raises(DataError, match="unknown field"):
        base.decode(msgspec.json.encode(golden | {"extra": 1}), TYPES["model.live"], where="x")


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("labels.parquet", dataset.LABELS_SCHEMA),
        ("examples.parquet", dataset.EXAMPLES_SCHEMA),
        ("answers.parquet", evaluation.ANSWERS_SCHEMA),
        ("requests", requests.schema(["brightness"])),
        ("feedback", requests.FEEDBACK_SCHEMA),
    ],
)
def test_the_columns_of_each_table_are_those_of_the_golden_schema(name: str, schema: pa.Schema):
    assert schema.to_string() + "\n" == (GOLDEN / f"{name}.schema.txt").read_text()


def test_the_labels_database_has_the_golden_schema():
    database = sqlite3.connect(":memory:")
    database.executescript(labels.SCHEMA)

    made = "\n".join(
        sql for (sql,) in database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
    )
    database.close()

    assert made + "\n" == (GOLDEN / "labels.db.schema.txt").read_text()


def test_the_index_in_postgres_has_the_golden_schema():
    assert (GOLDEN / "runs.postgres.schema.txt").read_text() == shared.SCHEMA


def test_the_tables_of_packs_and_chunks_are_read_and_written_the_same():
    packs = GOLDEN / "packs.tsv"
    chunks = GOLDEN / "chunks.tsv"
    members = Packs({"0001-0a1b2c3d.tsv": packs}).members
    wholes = Chunks({"files.tsv": chunks}).members

    rows = [
        (int(m.pack[14:17]), m.offset, m.size_bytes, m.md5, path) for path, m in members.items()
    ]

    assert list(members) == ["images/0001.png", "a\tb\nc\\d\r.png"]
    assert members["images/0001.png"].pack == "0001-0a1b2c3d-000.tar"
    assert packed.table(rows) == packs.read_bytes()
    assert list(wholes) == ["a\tb.bin", "large.bin"]
    assert chunked.table(wholes) == chunks.read_bytes()


def test_a_heartbeat_is_read_and_written_the_same(tmp_path: Path):
    golden = GOLDEN / "heartbeat.v1.bin"

    found = read_beat(golden)
    Heart(tmp_path / "heartbeat-0").beat(43, Activity.BACKWARD, 10.5, 63.0)

    assert found == (1, 43, Activity.BACKWARD, 10.5, 63.0)
    assert (tmp_path / "heartbeat-0").read_bytes() == golden.read_bytes()
