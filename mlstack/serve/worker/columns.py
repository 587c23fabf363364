"""Entries of the request log as columns of Arrow: a microsecond a row, see `records.requests`.

Every request pays for this, beside or behind the event loop, so what can be done for all entries at
once is: an attribute at a time, the answers of all as one array.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, repeat
from operator import attrgetter
from typing import Any

import numpy as np

from mlstack.inputs import images
from mlstack.records import requests
from mlstack.serve.worker import arrow_stream
from mlstack.serve.worker.arrow_stream import (
    Column,
    Raw,
    binaries,
    column_of,
    floats,
    integers,
    lists,
    nothing,
    same,
    texts,
)

OWN = {"ts_us": "moments_us", "latency_us": "latencies_us", "batch": "batches"}  # of `Together`
KEYS = frozenset({"prediction_id", "ts_us", "model", "version", "status"})  # never redacted
SAID = ("request_id", "ts_us", "version", "route", "status", "error", "latency_us", "batch")


@dataclass(slots=True)
class Together:
    """Requests of one row each that the fast path has answered: what each has of its own."""

    ids: list[str]
    moments_us: list[int]
    latencies_us: list[int]
    batches: list[int]
    inputs: list[Raw] | None
    stacks: list[np.ndarray]  # probabilities, those of one turn a stack
    columns: list[dict[str, np.ndarray]]  # of tables, those of one turn a dict

    def extend(self, others: "Together") -> None:
        """Take in others."""
        self.ids += others.ids
        self.moments_us += others.moments_us
        self.latencies_us += others.latencies_us
        self.batches += others.batches
        if self.inputs is not None and others.inputs is not None:
            self.inputs += others.inputs
        self.stacks += others.stacks
        self.columns += others.columns

    def only(self, places: list[int]) -> "Together":
        """Give some of those of one turn."""
        return Together(
            [self.ids[i] for i in places],
            [self.moments_us[i] for i in places],
            [self.latencies_us[i] for i in places],
            [self.batches[i] for i in places],
            None if self.inputs is None else [self.inputs[i] for i in places],
            [stack[places] for stack in self.stacks],
            [{name: one[places] for name, one in columns.items()} for columns in self.columns],
        )


@dataclass(slots=True)
class Entry:
    """One answered (or refused) request; `count` rows of the log."""

    prediction_id: str
    request_id: str
    ts_us: int
    version: int
    route: str
    status: int
    error: str | None = None
    latency_us: int = 0
    batch: int = 0
    count: int = 1
    probabilities: np.ndarray | None = None  # (count, classes)
    classes: list[str] | None = None
    inputs: Sequence[Raw] | None = None
    pixels: np.ndarray | None = None  # uint8 (count, height, width, channels)
    columns: dict[str, np.ndarray] | None = None  # of a table: float32 (count,) each
    together: Together | None = None  # of several requests at once: in place of all that is theirs

    @classmethod
    def of(cls, together: Together, version: int, route: str, classes: list[str]) -> "Entry":
        """Make one of requests that were answered together."""
        entry = cls("", "", 0, version, route, 200, classes=classes, together=together)
        entry.count = len(together.ids)
        entry.inputs = together.inputs
        return entry

    def takes(self, other: "Entry") -> bool:
        """Take in what another one holds, where both are of the fast path and one model."""
        mine, others = self.together, other.together
        if mine is None or others is None:
            return False
        is_same = self.version == other.version and self.classes is other.classes
        if not is_same or (self.inputs is None) != (other.inputs is None):
            return False
        mine.extend(others)
        self.count += other.count
        return True

    def size_bytes(self) -> int:
        """Estimate the memory it holds on to."""
        held = sum(map(len, self.inputs)) if self.inputs else 0
        return held + (self.pixels.nbytes if self.pixels is not None else 0)


def row_id(prediction_id: str, row: int, count: int) -> str:
    """Give the id of one row: the request's own, or with the row's number behind it."""
    return prediction_id if count == 1 else f"{prediction_id}-{row}"


class Encoder:
    """What one server's log holds of its entries."""

    def __init__(self, model: str, features: list[str], *, inputs: bool, redact: list[str]) -> None:
        kinds = requests.columns(features)
        self.stream = arrow_stream.Stream(kinds)
        self._kinds = kinds
        self._features = [name for name in kinds if name not in requests.BASE_COLUMNS]
        self._model = model
        self._inputs = inputs
        redacted = {*redact, *(requests.FEATURE + name for name in redact)} - KEYS
        self._redacted = [name for name in kinds if name in redacted]

    def batch(self, entries: list[Entry]) -> list[Raw]:
        """Make the rows of these entries, in order: the pieces of a batch of `stream`."""
        rows = sum(entry.count for entry in entries)
        columns = self._said(entries, rows)
        columns["model"] = same(self._model, rows, "string")
        columns |= _answers(entries)
        columns["input"] = binaries(self._kept(entries))
        if self._features:
            columns |= _features(entries, rows, self._features)
        for name in self._redacted:
            columns[name] = nothing(rows, self._kinds[name])
        return self.stream.batch([columns[name] for name in self._kinds])

    def _said(self, entries: list[Entry], rows: int) -> dict[str, Column]:
        """Make the columns that are the same for all rows of an entry, and their ids."""
        counts = [entry.count for entry in entries]
        has_own = any(entry.together is not None for entry in entries)
        columns: dict[str, Column] = {}
        for name, values in zip(SAID, zip(*map(_said, entries), strict=True), strict=True):
            kind = self._kinds[name]
            if has_own and name in OWN:
                columns[name] = integers(list(chain.from_iterable(_own(entries, name))), kind)
            elif values.count(values[0]) == len(values):
                columns[name] = same(values[0], rows, kind)
            else:
                columns[name] = column_of(_repeated(values, counts), kind)
        columns["prediction_id"] = texts(list(chain.from_iterable(map(_ids, entries))))
        return columns

    def _kept(self, entries: list[Entry]) -> list[Raw | None]:
        kept: list[Raw | None] = []
        for entry in entries:
            kept += entry.inputs if entry.inputs and self._inputs else [None] * entry.count
        return kept


_said = attrgetter(*SAID)


def _ids(entry: Entry) -> list[str]:
    if entry.together is not None:
        return entry.together.ids
    if entry.count == 1:
        return [entry.prediction_id]
    return [row_id(entry.prediction_id, row, entry.count) for row in range(entry.count)]


def _own(entries: list[Entry], name: str) -> Iterator[Sequence[Any]]:
    """Give a column that requests which were answered together have each for themselves."""
    for entry in entries:
        together = entry.together
        is_alone = together is None
        yield [getattr(entry, name)] * entry.count if is_alone else getattr(together, OWN[name])


def _repeated(column: Sequence[Any], counts: list[int]) -> list[Any]:
    return list(chain.from_iterable(map(repeat, column, counts)))


def _answers(entries: list[Entry]) -> dict[str, Column]:
    """Make the columns of what was answered; neighbours with the same classes as one array."""
    predictions: list[str | None] = []
    sizes: list[int] = []
    confidences: list[np.ndarray] = []
    values: list[np.ndarray] = []
    for classes, stack, rows in _stacks(entries):
        if stack is None:
            predictions += [None] * rows
            sizes += [0] * rows
            confidences.append(np.zeros(rows, np.float32))
            continue
        predictions += [classes[i] for i in stack.argmax(axis=1).tolist()]
        sizes += [stack.shape[1]] * rows
        confidences.append(stack.max(axis=1))
        values.append(stack.ravel())
    there = None
    if None in predictions:
        there = np.array([prediction is not None for prediction in predictions], bool)
    return {
        "prediction": texts(predictions),
        "confidence": floats(_joined(confidences), there),
        "probabilities": lists(sizes, _joined(values), there),
    }


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else np.zeros(0, np.float32)


def _stacks(entries: list[Entry]) -> list[tuple[list[str], np.ndarray | None, int]]:
    """Stack the probabilities of neighbours: (classes, (rows, classes) or None, rows) each."""
    found: list[tuple[list[str], np.ndarray | None, int]] = []
    for _, run in groupby(entries, _answered_as):
        same = list(run)
        stacks = [stack for entry in same for stack in _probabilities(entry)]
        has_answers = bool(stacks) and bool(same[0].classes)
        stack = _joined(stacks) if has_answers else None
        found.append((same[0].classes or [], stack, sum(entry.count for entry in same)))
    return found


def _probabilities(entry: Entry) -> list[np.ndarray]:
    if entry.together is not None:
        return entry.together.stacks
    return [] if entry.probabilities is None else [entry.probabilities]


def _columns(entry: Entry) -> list[dict[str, np.ndarray]]:
    if entry.together is not None:
        return entry.together.columns
    return [] if entry.columns is None else [entry.columns]


def _answered_as(entry: Entry) -> int:
    has_none = entry.probabilities is None and entry.together is None
    return 0 if has_none else id(entry.classes)


def _features(entries: list[Entry], rows: int, names: list[str]) -> dict[str, Column]:
    """Compute the monitored features, all images of one size at once; `names` are the log's."""
    values = {name: np.full(rows, np.nan, np.float32) for name in names}
    by_shape: dict[tuple[int, ...], tuple[list[int], list[np.ndarray]]] = {}
    start = 0
    for entry in entries:
        if entry.pixels is not None:
            places, stacks = by_shape.setdefault(entry.pixels.shape[1:], ([], []))
            places += range(start, start + entry.count)
            stacks.append(entry.pixels)
        at = start
        for columns in _columns(entry):
            for name, column in columns.items():
                if requests.FEATURE + name in values:
                    values[requests.FEATURE + name][at : at + len(column)] = column
            at += len(next(iter(columns.values()), ()))
        start += entry.count
    for places, stacks in by_shape.values():
        computed = images.features(np.concatenate(stacks))
        for index, name in enumerate(images.FEATURES):
            if requests.FEATURE + name in values:  # the log is that of another kind of model
                values[requests.FEATURE + name][places] = computed[:, index]
    # a feature that is no number is missing
    return {name: floats(column, ~np.isnan(column)) for name, column in values.items()}
