"""The fast path: plain predictions that come in one turn of the event loop go together.

A small model takes less than what a request costs by itself: a task, an array, an entry of the log.
So what has come together is read, run, logged and answered together, by one function that never
waits. Whatever it cannot answer so (a header that means something, a canary, a queue, a body that
is not right) goes the way of any other request, `App.answer`, which answers the same.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import orjson

from mlstack.records.server import LogSpec
from mlstack.serve.worker import numbers, plain
from mlstack.serve.worker.access import Access
from mlstack.serve.worker.answers import Answer
from mlstack.serve.worker.columns import Entry, Together
from mlstack.serve.worker.log import RequestLog
from mlstack.serve.worker.metrics import Metrics
from mlstack.serve.worker.model import Model
from mlstack.serve.worker.plain import Reader, Rows
from mlstack.serve.worker.predicted import predicted
from mlstack.serve.worker.request import Caller, Request, new_ids
from mlstack.serve.worker.said import AccessLog, log
from mlstack.serve.worker.traffic import Deployed

PATH = b"/predict"
ROUTE = "predict"
# Headers that change nothing of an answer, once the key in them is found to be good; whoever sends
# another one is looked at by himself.
PLAIN = frozenset(
    {
        *(b"host", b"user-agent", b"accept", b"accept-encoding", b"accept-language"),
        *(b"connection", b"content-type", b"content-length", b"authorization", b"x-api-key"),
    }
)
HEAD = b"x-prediction-id: %b\r\nx-model-version: %b\r\nx-request-id: %b\r\n"
JSON_KINDS = frozenset({b"application/json", b"application/json; charset=utf-8"})


class Client(Caller, Protocol):
    """Who asks: a connection, which waits for `reply` or for its request to be started."""

    @property
    def is_ready(self) -> bool:
        """Tell whether an answer can be written, and another question follow it."""

    def reply(self, head: bytes, body: bytes) -> None:
        """Write an answer."""

    def start(self, request: Request) -> None:
        """Go the usual way."""


Asked = tuple[Client, Request]


@dataclass(frozen=True)
class Books:
    """Where answers are counted and kept."""

    metrics: Metrics
    log: RequestLog
    access_log: AccessLog


class FastPath:
    """What has come in this turn of the loop."""

    def __init__(
        self,
        live: Callable[[], Deployed | None],
        access: Access,
        books: Books,
        spec: LogSpec,
    ) -> None:
        """Wait for the first request.

        Args:
            live: gives the model that answers all plain requests now; None where none does.
            access: knows who may ask.
            books: where answers are counted and kept.
            spec: what the log holds of them.
        """
        self._live = live
        self._access = access
        self._books = books
        self._spec = spec
        self._asked: list[Asked] = []
        # of the model that answers now, which this alone must not keep in memory
        self._readers: WeakKeyDictionary[Deployed, Reader | None] = WeakKeyDictionary()

    def takes(self, headers: dict[bytes, bytes], size: int) -> bool:
        """Tell whether a `POST /predict` with a body of so many bytes may be a plain one."""
        return (
            size < numbers.LARGE_BYTES
            and headers.get(b"content-type") in JSON_KINDS
            and headers.keys() <= PLAIN
        )

    def add(self, caller: Client, headers: dict[bytes, bytes], body: bytes) -> None:
        """Keep a request until all that came with it have been read."""
        if not self._asked:
            asyncio.get_running_loop().call_soon(self._turn)
        self._asked.append((caller, Request("POST", "/predict", headers, body, caller)))

    def _turn(self) -> None:
        asked, self._asked = self._asked, []
        deployed = self._live()
        most = deployed.batcher.now_rows if deployed is not None else 0
        reader = self._reader_of(deployed) if deployed is not None else None
        if deployed is None or reader is None or not most:
            _start(asked)
            return
        for start in range(0, len(asked), most):
            self._together(asked[start : start + most], deployed, reader)

    def _reader_of(self, deployed: Deployed) -> Reader | None:
        if deployed not in self._readers:
            self._readers[deployed] = plain.reader_of(deployed.model, self._spec)
        return self._readers[deployed]

    def _together(self, asked: list[Asked], deployed: Deployed, reader: Reader) -> None:
        """Answer those that are plain; the others go the usual way, and all where that fails."""
        plain_ones: list[Asked] = []
        others = asked
        answers = None
        try:
            plain_ones, others, rows = self._sorted_out(asked, reader)
            answers = self._answers(plain_ones, rows, deployed) if rows is not None else None
        except Exception as error:  # nobody may wait for ever for a mistake of ours
            log.exception("%s on the fast path", type(error).__name__)
        if answers is None:
            _start(asked)
            return
        _start(others)
        for (caller, _), (head, body) in zip(plain_ones, answers, strict=True):
            caller.reply(head, body)

    def _sorted_out(
        self, asked: list[Asked], reader: Reader
    ) -> tuple[list[Asked], list[Asked], Rows | None]:
        """Tell who may ask and has asked plainly from the others, and read his row."""
        read = [
            reader.read(request.content)
            if caller.is_ready and self._access.has_key(request)
            else None
            for caller, request in asked
        ]
        found = [row for row in read if row is not None]
        rows = reader.rows(found) if found else None
        if found and rows is None:  # a wrong value, for which the others must not wait
            read = [row if row is not None and reader.rows([row]) else None for row in read]
            found = [row for row in read if row is not None]
            rows = reader.rows(found) if found else None
        if len(found) == len(asked):
            return asked, [], rows
        pairs = list(zip(asked, read, strict=True))
        good = [one for one, row in pairs if row is not None]
        return good, [one for one, row in pairs if row is None], rows

    def _answers(
        self, asked: list[Asked], rows: Rows, deployed: Deployed
    ) -> list[tuple[bytes, bytes]] | None:
        """Run, count and note them all; give headers and body of each answer.

        None says that each must go the usual way.
        """
        model = deployed.model
        ids = new_ids(len(asked))
        now_us = time.time_ns() // 1000  # not before the time in the ids, by which rows are found
        started = [request.started for _, request in asked]
        outputs = deployed.batcher.run_now([rows.inputs], started)
        probabilities = model.probabilities(outputs) if outputs is not None else None
        if probabilities is None:
            return None
        classes = model.signature.classes
        said = [
            predicted(row, classes, name)
            for row, name in zip(probabilities.tolist(), ids, strict=True)
        ]
        about = {"model": model.name, "version": model.number}
        bodies = [orjson.dumps(one | about) for one in said]
        now = time.perf_counter()
        seconds = [now - one for one in started]
        count = len(asked)
        together = Together(
            ids,
            [now_us] * count,
            [int(one * 1e6) for one in seconds],
            [count] * count,
            rows.contents,
            [probabilities],
            [] if rows.columns is None else [rows.columns],
        )
        self._books.log.add(Entry.of(together, model.number, ROUTE, classes))
        metrics = self._books.metrics
        for label, times in Counter(one["prediction"] for one in said).items():
            metrics.predictions[model.number, label] += times
        metrics.count_all(model.number, ROUTE, 200, seconds)
        if self._books.access_log.is_on:
            self._note_lines(asked, model, zip(ids, bodies, seconds, strict=True))
        version = b"%d" % model.number
        return [
            (HEAD % (name, version, name), body)
            for name, body in zip([one.encode() for one in ids], bodies, strict=True)
        ]

    def _note_lines(
        self, asked: list[Asked], model: Model, answers: Iterable[tuple[str, bytes, float]]
    ) -> None:
        """Keep the line of each; `answers` are id, body and seconds."""
        for (_, request), (name, body, seconds) in zip(asked, answers, strict=True):
            request.route, request.version = ROUTE, model.number
            request.prediction_id = request.given_id = name
            self._books.access_log.note(model.name, request, Answer(200, body), seconds)


def _start(asked: list[Asked]) -> None:
    for caller, request in asked:
        request.keeps_alive = True
        caller.start(request)
