"""Late labels: `POST /feedback` is answered when the label is on disk."""

import asyncio
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pyarrow as pa

from mlstack import parquet
from mlstack.errors import MachineError
from mlstack.records import requests
from mlstack.serve.worker.answers import Refused, bad, busy
from mlstack.serve.worker.memory import without_pandas
from mlstack.serve.worker.said import log
from mlstack.serve.worker.wal import write_part

ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}(-\d{1,7})?")
MERGE_FROM = 100  # parts; many small files slow every reader down
MERGE_S = 3600.0


class FeedbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of a request."""

    prediction_id: str
    label: str


_json = msgspec.json.Decoder(FeedbackBody)


def parse(body: bytes, classes: list[str]) -> FeedbackBody:
    """Read one label and check it; a prediction of an earlier server is as good as one of ours.

    Raises:
        Refused: 400 with the field that is wrong.
    """
    try:
        given = _json.decode(body)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        raise bad(problem, place.rstrip("`").lstrip(".") or "body") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad(f"the body is not JSON: {error}", "body") from error
    if not ID.fullmatch(given.prediction_id):
        raise bad("is not an id that a prediction came with", "prediction_id")
    if classes and given.label not in classes:
        raise bad(f"`{given.label[:60]}` is none of {', '.join(classes)}", "label")
    return given


class Feedback:
    """The folder of late labels. Labels that arrive while one part is written share the next."""

    def __init__(self, folder: Path, merge_s: float = MERGE_S) -> None:
        self._folder = folder
        self._merge_s = merge_s
        self._merged = time.monotonic()
        self._thread = ThreadPoolExecutor(1, "feedback")
        self._waiting: list[tuple[FeedbackBody, asyncio.Future[None]]] = []
        self._turn = asyncio.Lock()

    async def add(self, given: FeedbackBody) -> None:
        """Keep one label; returns when it is on disk.

        Raises:
            Refused: 503, the disk does not take it.
        """
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[None] = loop.create_future()
        self._waiting.append((given, kept))
        async with self._turn:
            if not kept.done():  # else it went with the part before
                batch, self._waiting = self._waiting, []
                labels = [label for label, _ in batch]
                problem = await loop.run_in_executor(self._thread, self._written, labels)
                for _, done in batch:
                    done.set_result(None) if problem is None else done.set_exception(problem)
        await kept

    def tick(self) -> None:
        """Do the slow housekeeping; called now and then."""
        if time.monotonic() - self._merged >= self._merge_s:
            self._merged = time.monotonic()
            self._thread.submit(merge, self._folder)

    def close(self) -> None:
        """Wait for the last part."""
        self._thread.shutdown()

    def _written(self, batch: list[FeedbackBody]) -> Refused | None:
        try:
            self._write(batch)
        except (OSError, pa.ArrowException, MachineError) as error:
            return busy(503, f"the label cannot be kept: {error}")
        return None

    def _write(self, batch: list[FeedbackBody]) -> None:
        now = time.time_ns() // 1000
        rows = [{"prediction_id": b.prediction_id, "label": b.label, "ts_us": now} for b in batch]
        with without_pandas():
            table = pa.Table.from_pylist(rows, schema=requests.FEEDBACK_SCHEMA)
        write_part(table, self._folder / f"part-{now}-{os.getpid()}.parquet")


def merge(folder: Path) -> None:
    """Make one part of many. A crash in between leaves labels twice, which readers take as once.

    What cannot be read, or a disk that takes nothing, stops no server.
    """
    parts = requests.feedback_parts(folder)
    if len(parts) < MERGE_FROM:
        return
    try:
        whole = pa.concat_tables([parquet.read(part) for part in parts])
        target = parts[-1].with_name(f"{parts[-1].stem}-merged.parquet")
        write_part(whole, target)
        for part in parts:
            if part != target:
                part.unlink()
    except (OSError, pa.ArrowException, MachineError) as error:
        log.warning("the late labels stay in %d files: %s", len(parts), error)
