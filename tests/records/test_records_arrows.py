"""`records.arrows` against pyarrow, on the schema of the request log."""

import random
from pathlib import Path

import pyarrow as pa
import pytest

from mlstack.records import arrows, requests

PLAIN = [name for name in requests.BASE_COLUMNS if name not in ("probabilities", "input")]


def some_rows(chance: random.Random, count: int) -> pa.Table:
    def value(kind: pa.DataType) -> object:
        if chance.random() < 0.2:
            return None
        if pa.types.is_string(kind):
            return chance.choice(["", "a", "日本語", "x" * 300])
        if pa.types.is_binary(kind):
            return chance.randbytes(chance.randint(0, 50))
        if pa.types.is_list(kind):
            return [chance.random() for _ in range(chance.randint(0, 3))]
        if pa.types.is_floating(kind):
            return chance.choice([0.5, -1.25, float("inf")])
        return chance.randint(-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)

    schema = requests.schema(["brightness"])
    return pa.table(
        {f.name: pa.array([value(f.type) for _ in range(count)], f.type) for f in schema},
        schema=schema,
    )


def stream(path: Path, tables: list[pa.Table]) -> bytes:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    return path.read_bytes()


def read(content: bytes) -> list[dict[str, arrows.Cell]]:
    return [
        {name: batch.cell(name, row) for name in PLAIN}
        for batch in arrows.batches(memoryview(content))
        for row in range(batch.rows)
    ]


@pytest.mark.parametrize("seed", range(10))
def test_plain_columns_read_as_pyarrow_reads_them(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    tables = [some_rows(chance, chance.choice([0, 1, 7, 8, 9, 200])) for _ in range(4)]
    content = stream(tmp_path / "x.arrows", tables)

    assert read(content) == pa.concat_tables(tables).select(PLAIN).to_pylist()


def test_a_stream_cut_anywhere_gives_its_whole_batches(tmp_path: Path) -> None:
    chance = random.Random(1)
    tables = [some_rows(chance, 3) for _ in range(3)]
    content = stream(tmp_path / "x.arrows", tables)
    rows = pa.concat_tables(tables).select(PLAIN).to_pylist()

    counts = set()
    for size in range(0, len(content), 3):
        found = read(content[:size])
        assert found == rows[: len(found)]
        counts.add(len(found))

    assert counts == {0, 3, 6, 9}
