"""`records.cells` against pyarrow, on files as the request log writes them, and on others."""

import random
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_records_arrows import PLAIN, some_rows

from mlstack.records import cells

NAMES = tuple(name for name in PLAIN if name != "prediction_id")


def some_table(seed: int, count: int) -> pa.Table:
    chance = random.Random(seed)
    table = some_rows(chance, count)
    ids = pa.array([f"{chance.getrandbits(64):016x}-{n}" for n in range(count)], pa.string())
    return table.set_column(0, "prediction_id", ids)


def found(path: Path, key: str) -> dict[str, object] | None:
    row = cells.find(memoryview(path.read_bytes()), "prediction_id", key, NAMES)
    return dict(zip(NAMES, row, strict=True)) if row is not None else None


@pytest.mark.parametrize("count", [1, 7, 100, 3000])
@pytest.mark.parametrize(
    "how",
    [
        {"compression": "zstd", "compression_level": 1},
        {"compression": "none"},
        {"compression": "zstd", "use_dictionary": False},
        {"compression": "zstd", "row_group_size": 64},
        {"compression": "zstd", "data_page_size": 500, "dictionary_pagesize_limit": 2000},
    ],
    ids=["as the log", "uncompressed", "no dictionary", "many groups", "small pages"],
)
def test_every_row_reads_as_pyarrow_reads_it(tmp_path: Path, count: int, how: dict) -> None:
    table, path = some_table(count, count), tmp_path / "x.parquet"
    pq.write_table(table, path, **how)
    rows = table.select([*NAMES, "prediction_id"]).to_pylist()

    for row in random.Random(1).sample(rows, min(count, 40)):
        assert found(path, row.pop("prediction_id")) == row
    assert found(path, "nothing like it") is None
    assert found(path, rows[0].get("prediction_id", "x") + "0") is None


@pytest.mark.parametrize("how", [{"compression": "snappy"}, {"data_page_version": "2.0"}])
def test_what_is_written_in_another_way_is_left_to_others(tmp_path: Path, how: dict) -> None:
    table, path = some_table(1, 50), tmp_path / "x.parquet"
    pq.write_table(table, path, **how)

    with pytest.raises(NotImplementedError):
        found(path, table["prediction_id"][3].as_py())


def test_a_damaged_file_is_refused_or_read_never_wrong(tmp_path: Path) -> None:
    table, path = some_table(2, 300), tmp_path / "x.parquet"
    pq.write_table(table, path, compression="zstd")
    content, key = path.read_bytes(), table["prediction_id"][150].as_py()
    whole = found(path, key)

    for size in range(0, len(content), 97):
        path.write_bytes(content[:size])
        with pytest.raises((ValueError, LookupError, struct.error, NotImplementedError)):
            found(path, key)

    assert whole is not None
