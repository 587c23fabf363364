"""The request log: what is written when, and what a kill leaves."""

import asyncio
import errno
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from serving import CONFIG, NAME, end, eventually, make_image, make_package, start

from mlstack.records import requests
from mlstack.records.server import LogSpec
from mlstack.serve.worker.arrow_stream import END
from mlstack.serve.worker.columns import Encoder, Entry
from mlstack.serve.worker.log import (
    MANY_BYTES,
    MANY_ROWS,
    MAX_PENDING_BYTES,
    MAX_PENDING_ROWS,
    RequestLog,
)
from mlstack.serve.worker.wal import HOUR_US, Wal, compact_leftovers, delete_old, write_part

MINUTE_MS = 60_000


def wals(log: Path) -> list[Path]:
    return list((log / requests.WAL).iterdir())


def table_of(encoder: Encoder, entries: list[Entry]) -> pa.Table:
    """Read what the log would hold of these entries."""
    stream = b"".join([encoder.stream.begin, *encoder.batch(entries), END])
    table = pa.ipc.open_stream(stream).read_all()
    table.validate(full=True)
    return table


def kept(log: Path) -> list[str]:
    """List the prediction ids on the disk, packed or not."""
    tables = [requests.read_part(part) for part in requests.parts(log, NAME)]
    tables += [table for wal in wals(log) if (table := requests.read_wal(wal)) is not None]
    return [name for table in tables for name in table.column("prediction_id").to_pylist()]


def test_rows_are_packed_by_the_hour_they_were_asked_in(tmp_path: Path) -> None:
    hours = [5, 5, 6, 5, 6, 6]  # answers overtake each other
    ids = [f"{number}" for number in range(len(hours))]
    encoder = Encoder(NAME, [], inputs=False, redact=[])
    entries = [
        Entry(name, "", hour * HOUR_US + number, 1, "predict", 200, count=1)
        for number, (name, hour) in enumerate(zip(ids, hours, strict=True))
    ]
    written = Wal(tmp_path, NAME, encoder.stream)
    written.append(encoder.batch(entries), len(entries))

    written.finish(tmp_path)

    found = {
        part.parent.name: requests.read_part(part)["prediction_id"].to_pylist()
        for part in requests.parts(tmp_path, NAME)
    }
    assert found == {"hour=05": ["0", "1", "3"], "hour=06": ["2", "4", "5"]}


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


@pytest.mark.parametrize(
    ("rows", "size", "is_written"),
    [
        (MANY_ROWS, 0, True),
        (MANY_ROWS - 1, 0, False),
        (1, MANY_BYTES, True),
        (1, MANY_BYTES // 2, False),
    ],
)
def test_many_rows_or_bytes_do_not_wait_for_the_interval(
    tmp_path: Path, rows: int, size: int, is_written: bool
) -> None:
    log = RequestLog(tmp_path, NAME, LogSpec(flush_ms=MINUTE_MS))
    log.start([])

    async def add() -> int:
        for number in range(rows):
            log.add(Entry(f"id-{number}", "", 1, 1, "infer", 200, inputs=[bytes(size)]))
        for _ in range(200):
            await asyncio.sleep(0.01)
            if log.written_rows:
                break
        return log.written_rows

    written = asyncio.run(add())
    log.close()

    assert written == (rows if is_written else 0)
    assert len(kept(tmp_path)) == rows


def test_tensors_are_packed_by_the_codec_for_them_and_nothing_is_left_plain(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def codecs(size: int) -> dict[str, str]:
        entry = Entry("a", "", 1, 1, "infer", 200, classes=["x", "y"])
        entry.probabilities, entry.inputs = np.full((1, 2), 0.5, np.float32), [rng.bytes(size)]
        part = tmp_path / f"{size}.parquet"
        rows = table_of(Encoder("m", [], inputs=True, redact=[]), [entry])
        write_part(rows, part)
        group = pq.ParquetFile(part).metadata.row_group(0)
        found = [group.column(index) for index in range(group.num_columns)]
        assert requests.read_part(part).to_pylist() == rows.to_pylist()
        return {column.path_in_schema: column.compression for column in found}

    small, large = codecs(100), codecs(10_000)

    assert set(small.values()) == {"ZSTD"}
    assert large == small | {"input": "SNAPPY"}


def test_a_disk_that_takes_nothing_does_not_fill_up_with_what_did_not_fit(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
import pyarrow as pa
from mlstack.records import requests
from mlstack.serve.worker.columns import Encoder, Entry
from mlstack.serve.worker.wal import Wal, write_part
encoder = Encoder("m", [], inputs=False, redact=[])
kept = encoder.batch([Entry("a", "", 1, 1, "predict", 200)])
log = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))  # a new file can be made, and not be filled
for call in (
    lambda: Wal(log, "m", encoder.stream).append(kept, 1),
    lambda: write_part(requests.FEEDBACK_SCHEMA.empty_table(), log / "part-1-1.parquet"),
):
    try:
        call()
    except OSError:
        continue
    raise AssertionError("it was written")
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_damaged_files_are_cut_or_put_aside_and_the_others_packed(tmp_path: Path) -> None:
    encoder = Encoder(NAME, [], inputs=False, redact=[])

    def leave(moments: list[int]) -> Path:
        left = Wal(tmp_path, NAME, encoder.stream)
        for moment in moments:
            ids = [f"{moment % 1000:03}{row}" for row in range(3)]
            entries = [Entry(one, "", moment, 1, "predict", 200) for one in ids]
            left.append(encoder.batch(entries), 3)
        left._file.close()  # as the kernel does for a process that has died
        return left.path

    half, late, whole = leave([1, 2, 3]), leave([2**62]), leave([4])
    lengths = struct.pack("<4i", 0, 4, 8, 12)  # of the ids, of the second of three batches
    before, once, twice, *others = half.read_bytes().split(lengths)
    broken = struct.pack("<4i", 0, 4, 8, -12)
    half.write_bytes(lengths.join([before, once]) + broken + lengths.join([twice, *others]))

    compact_leftovers(tmp_path)

    parts = [requests.read_part(part) for part in requests.parts(tmp_path, NAME)]
    ids = [name for part in parts for name in part["prediction_id"].to_pylist()]
    assert sorted(ids) == ["0010", "0011", "0012", "0040", "0041", "0042"]
    assert [path.name for path in wals(tmp_path)] == [f"{late.name}.damaged"]
    assert not whole.exists()


def test_a_file_that_another_server_packs_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def take(stream: BinaryIO, how: int) -> None:
        monkeypatch.undo()
        compact_leftovers(tmp_path)
        fcntl.flock(stream, how)

    monkeypatch.setattr("mlstack.serve.worker.wal.fcntl", SimpleNamespace(flock=take, LOCK_EX=2))
    encoder = Encoder(NAME, [], inputs=False, redact=[])
    written = Wal(tmp_path, NAME, encoder.stream)
    written.append(encoder.batch([Entry("a", "", 1, 1, "infer", 200)]), 1)

    assert kept(tmp_path) == ["a"]
    written._file.close()


def test_days_without_number_keep_everything(tmp_path: Path) -> None:
    day = tmp_path / f"model={NAME}" / "date=2001-01-01"
    day.mkdir(parents=True)

    delete_old(tmp_path, NAME, 10**9)
    assert day.is_dir()

    delete_old(tmp_path, NAME, 30)
    assert not day.exists()


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


def test_entries_of_every_kind_become_rows_in_their_order() -> None:
    encoder = Encoder(NAME, ["x"], inputs=True, redact=[])
    few, many = ["a", "b"], ["a", "b", "c"]
    two = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    three = np.array([[0.0, 0.0, 1.0]], np.float32)
    entries = [
        Entry("p", "r", 1, 1, "infer", 200, count=2, probabilities=two, classes=few),
        Entry("bad", "", 2, 1, "infer", 400, error="bad", inputs=[memoryview(b"sent")]),
        Entry("q", "", 3, 1, "infer", 200, probabilities=two[:1], classes=few, inputs=[b"in"]),
        Entry("no classes", "", 4, 1, "infer", 200, probabilities=two[1:], classes=[]),
        Entry("s", "", 5, 2, "infer", 200, probabilities=three, classes=many),
    ]
    entries[2].columns = {"x": np.array([7.0], np.float32)}

    rows = table_of(encoder, entries).to_pylist()

    assert [row["prediction_id"] for row in rows] == ["p-0", "p-1", "bad", "q", "no classes", "s"]
    assert [row["ts_us"] for row in rows] == [1, 1, 2, 3, 4, 5]
    assert [row["status"] for row in rows] == [200, 200, 400, 200, 200, 200]
    assert [row["prediction"] for row in rows] == ["b", "a", None, "b", None, "c"]
    assert [row["confidence"] for row in rows] == [0.75, 0.5, None, 0.75, None, 1.0]
    assert [row["probabilities"] for row in rows] == [
        [0.25, 0.75],
        [0.5, 0.5],
        None,
        [0.25, 0.75],
        None,
        [0.0, 0.0, 1.0],
    ]
    assert [row["input"] for row in rows] == [None, None, b"sent", b"in", None, None]
    assert [row["f_x"] for row in rows] == [None, None, None, 7.0, None, None]


def test_redaction_blanks_columns_and_features_but_never_keys() -> None:
    redact = ["input", "x", "f_y", "prediction_id", "unknown"]
    encoder = Encoder(NAME, ["x", "y", "z"], inputs=True, redact=redact)
    entry = Entry("kept", "", 1, 1, "infer", 200, inputs=[b"secret"])
    entry.columns = {name: np.array([1.0], np.float32) for name in "xyz"}

    (row,) = table_of(encoder, [entry]).to_pylist()

    assert (row["prediction_id"], row["input"]) == ("kept", None)
    assert (row["f_x"], row["f_y"], row["f_z"]) == (None, None, 1.0)


def test_a_disk_that_takes_a_little_at_a_time_gets_everything_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.writev
    encoder = Encoder(NAME, [], inputs=True, redact=[])
    large = memoryview(bytes(100) * 100)
    entries = [
        Entry(str(n), "", 1, 1, "infer", 200, inputs=[[b"", b"ab", large][n % 3]])
        for n in range(2000)
    ]

    def some(descriptor: int, pieces: list[bytes]) -> int:
        return whole(descriptor, [memoryview(b"".join(pieces))[:70_001]])

    monkeypatch.setattr("mlstack.serve.worker.wal.os.writev", some)
    written = Wal(tmp_path, NAME, encoder.stream)
    written.append(encoder.batch(entries), len(entries))
    (path,) = wals(tmp_path)
    table = requests.read_wal(path)
    written._file.close()

    assert table is not None
    assert table.equals(table_of(encoder, entries))


class Disk:
    """A disk that takes half of what is written, and no more, as often as it is full."""

    def __init__(self, is_full: Callable[[int, list[bytes]], bool]) -> None:
        self._whole = os.writev
        self._is_full = is_full  # of the how-manieth call, from 1
        self._calls = 0

    def writev(self, descriptor: int, pieces: list[bytes]) -> int:
        self._calls += 1
        if not self._is_full(self._calls, pieces):
            return self._whole(descriptor, pieces)
        joined = b"".join(pieces)
        os.write(descriptor, joined[: len(joined) // 2])
        raise OSError(errno.ENOSPC, "no space left on device")


def write_all(folder: Path, names: str) -> tuple[int, int]:
    """Log one row after the other; tell how many are written, and lost."""

    async def main() -> tuple[int, int]:
        log = RequestLog(folder, NAME, LogSpec(flush_ms=1))
        log.start([])
        for number, name in enumerate(names, 1):
            log.add(Entry(name, "", 1, 1, "predict", 200))
            while log.written_rows + log.lost_rows < number:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
        log.close()
        return log.written_rows, log.lost_rows

    return asyncio.run(main())


@pytest.mark.parametrize("others", ["", "cd"])
def test_a_file_that_a_full_disk_has_torn_is_packed_by_the_same_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: str
) -> None:
    disk = Disk(lambda call, _: call == 3)  # the head of a file, `a`, and `b`, of which half stays
    monkeypatch.setattr("mlstack.serve.worker.wal.os.writev", disk.writev)

    counts = write_all(tmp_path, f"ab{others}")

    assert counts == (1 + len(others), 1)
    assert wals(tmp_path) == []
    assert sorted(kept(tmp_path)) == ["a", *others]


def test_a_file_that_cannot_be_packed_is_packed_behind_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ends = iter([True])
    disk = Disk(lambda _, pieces: pieces == [END] and next(ends, False))
    monkeypatch.setattr("mlstack.serve.worker.wal.os.writev", disk.writev)
    monkeypatch.setattr("mlstack.serve.worker.wal.FULL_BYTES", 1)  # each is full at once

    write_all(tmp_path, "abc")

    assert "the request log cannot be packed" in caplog.text
    assert wals(tmp_path) == []
    assert sorted(kept(tmp_path)) == ["a", "b", "c"]


def test_a_file_that_the_start_cannot_pack_is_packed_later_by_the_same_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = Encoder(NAME, [], inputs=False, redact=[])
    left = Wal(tmp_path, NAME, encoder.stream)
    left.append(encoder.batch([Entry("a", "", 1, 1, "predict", 200)]), 1)
    left.close()
    in_the_way = tmp_path / f"model={NAME}"
    in_the_way.touch()

    log = RequestLog(tmp_path, NAME, LogSpec())
    log.start([])
    in_the_way.unlink()
    log.close()

    assert "cannot be packed now" in caplog.text
    assert wals(tmp_path) == []
    assert kept(tmp_path) == ["a"]


def test_a_next_file_that_a_full_disk_does_not_take_ends_no_server_with_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(lambda call, _: call > 2)  # the head of a file and `a`
    monkeypatch.setattr("mlstack.serve.worker.wal.os.writev", disk.writev)
    monkeypatch.setattr("mlstack.serve.worker.wal.FULL_BYTES", 1)

    counts = write_all(tmp_path, "a")

    assert counts == (1, 0)
    assert "the request log has no next file" in caplog.text
    assert kept(tmp_path) == ["a"]
