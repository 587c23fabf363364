"""The request log: what is written when, and what a kill leaves."""

import asyncio
from pathlib import Path

import httpx
import pytest
from serving import CONFIG, NAME, end, eventually, make_image, make_package, start

from mlstack.records import requests
from mlstack.records.server import LogSpec
from mlstack.serve.worker.log import (
    MANY_ROWS,
    MAX_PENDING_BYTES,
    MAX_PENDING_ROWS,
    Entry,
    RequestLog,
)

MINUTE_MS = 60_000


def wals(log: Path) -> list[Path]:
    return list((log / requests.WAL).iterdir())


def kept(log: Path) -> list[str]:
    """List the prediction ids on the disk, packed or not."""
    tables = [requests.read_part(part) for part in requests.parts(log, NAME)]
    tables += [table for wal in wals(log) if (table := requests.read_wal(wal)) is not None]
    return [name for table in tables for name in table.column("prediction_id").to_pylist()]


def test_a_full_file_is_packed_while_the_next_one_is_written(tmp_path: Path) -> None:
    (tmp_path / "mlstack.yaml").write_text(CONFIG)
    make_package(tmp_path)
    log = tmp_path / ".mlstack" / "requests"
    large = make_image(tmp_path / "one.png", 7) + bytes(1_000_000)  # 17 of them fill a file
    server = start(tmp_path)

    with httpx.Client(base_url=server.url) as client:

        def ask() -> str:
            return client.post("/predict", content=large).json()["prediction_id"]

        (first,) = wals(log)
        asked = [ask() for _ in range(17)]

        def is_packed() -> bool:
            asked.append(ask())  # the next file is taken when something is written
            return not first.exists()

        eventually(is_packed)
        eventually(lambda: sorted(kept(log)) == sorted(asked))
    server.process.kill()
    end(server)

    assert sorted(kept(log)) == sorted(asked)


@pytest.mark.parametrize(("rows", "is_written"), [(MANY_ROWS, True), (MANY_ROWS - 1, False)])
def test_many_rows_do_not_wait_for_the_interval(
    tmp_path: Path, rows: int, is_written: bool
) -> None:
    log = RequestLog(tmp_path, NAME, LogSpec(flush_ms=MINUTE_MS))
    log.start([])

    async def add() -> int:
        for number in range(rows):
            log.add(Entry(f"id-{number}", "", 1, 1, "infer", 200))
        for _ in range(200):
            await asyncio.sleep(0.01)
            if log.written_rows:
                break
        return log.written_rows

    written = asyncio.run(add())
    log.close()

    assert written == (rows if is_written else 0)
    assert len(kept(tmp_path)) == rows


def test_what_does_not_fit_into_memory_is_lost_and_counted(tmp_path: Path) -> None:
    log = RequestLog(tmp_path, NAME, LogSpec(flush_ms=MINUTE_MS))
    log.start([])

    async def add() -> None:
        log.add(Entry("kept", "", 1, 1, "infer", 200))
        log.add(Entry("many", "", 1, 1, "infer", 200, count=MAX_PENDING_ROWS))
        log.add(Entry("large", "", 1, 1, "infer", 200, inputs=[bytes(MAX_PENDING_BYTES + 1)]))
        log.add(Entry("kept too", "", 1, 1, "infer", 200))

    asyncio.run(add())
    log.close()

    assert log.lost_rows == MAX_PENDING_ROWS + 1
    assert kept(tmp_path) == ["kept", "kept too"]


@pytest.mark.parametrize(
    ("sample", "least", "most"), [(0.0, 0, 0), (0.3, 200, 400), (1.0, 1000, 1000)]
)
def test_a_share_of_the_requests_is_kept(
    tmp_path: Path, sample: float, least: int, most: int
) -> None:
    log = RequestLog(tmp_path, NAME, LogSpec(sample=sample))
    log.start([])

    async def add() -> None:
        for number in range(1000):
            log.add(Entry(f"id-{number}", "", 1, 1, "infer", 200))
        await asyncio.sleep(0.1)

    asyncio.run(add())
    log.close()

    assert least <= len(kept(tmp_path)) <= most
    assert log.lost_rows == 0
