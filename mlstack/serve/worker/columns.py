"""Entries of the request log as columns of Arrow: a microsecond a row, see `records.requests`.

Every request pays for this, beside or behind the event loop, so what can be done for all entries at
once is: an attribute at a time, the answers of all as one array.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, repeat
from operator import attrgetter
from typing import Any

import numpy as np
import pyarrow as pa

from mlstack.inputs import images
from mlstack.records import requests

Raw = bytes | memoryview
KEYS = frozenset({"prediction_id", "ts_us", "model", "version", "status"})  # never redacted
INTEGERS = {
    pa.int16(): np.int16,
    pa.int32(): np.int32,
    pa.int64(): np.int64,
}
SOME_ROWS = 1024
SAID = ("request_id", "ts_us", "version", "route", "status", "error", "latency_us", "batch")


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
    ids: list[str] | None = None  # of requests that were answered together, a row each
    latencies_us: list[int] | None = None  # of these

    def only(self, places: list[int]) -> "Entry":
        """Give some of the requests that were answered together."""
        assert self.ids is not None and self.latencies_us is not None
        latencies_us = [self.latencies_us[i] for i in places]
        columns = {name: values[places] for name, values in (self.columns or {}).items()}
        ids = [self.ids[i] for i in places]
        return replace(
            self,
            prediction_id=ids[0],
            latency_us=latencies_us[0],
            count=len(places),
            probabilities=None if self.probabilities is None else self.probabilities[places],
            inputs=None if self.inputs is None else [self.inputs[i] for i in places],
            columns=columns or None,
            ids=ids,
            latencies_us=latencies_us,
        )

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
        self.schema = requests.schema(features)
        self._features = self.schema.names[len(requests.BASE_SCHEMA) :]
        self._types = {field.name: field.type for field in self.schema}
        self._model = model
        self._models = pa.nulls(0, pa.string())  # made once, and cut
        self._inputs = inputs
        redacted = {*redact, *(requests.FEATURE + name for name in redact)} - KEYS
        self._redacted = [name for name in self.schema.names if name in redacted]

    def batch(self, entries: list[Entry]) -> pa.RecordBatch:
        """Make the rows of these entries, in order."""
        rows = sum(entry.count for entry in entries)
        columns = self._said(entries, rows)
        columns["model"] = self._named(rows)
        columns |= _answers(entries)
        columns["input"] = _binary(self._kept(entries))
        if self._features:
            columns |= _features(entries, rows, self._features)
        for name in self._redacted:
            columns[name] = pa.nulls(rows, self.schema.field(name).type)
        return pa.RecordBatch.from_arrays(
            [columns[name] for name in self.schema.names], schema=self.schema
        )

    def _said(self, entries: list[Entry], rows: int) -> dict[str, pa.Array]:
        """Make the columns that are the same for all rows of an entry, and their ids."""
        ids = [entry.prediction_id for entry in entries]
        values: dict[str, Any] = dict(
            zip(SAID, zip(*map(_said, entries), strict=True), strict=True)
        )
        if rows != len(entries):
            counts = [entry.count for entry in entries]
            ids = list(chain.from_iterable(map(_ids, entries)))
            values = {name: _repeated(column, counts) for name, column in values.items()}
            values["latency_us"] = list(chain.from_iterable(map(_latencies, entries)))
        values["prediction_id"] = ids
        return {name: _column(column, self._types[name]) for name, column in values.items()}

    def _named(self, rows: int) -> pa.Array:
        if rows > len(self._models):
            self._models = pa.array([self._model] * max(rows, SOME_ROWS), pa.string())
        return self._models[:rows]

    def _kept(self, entries: list[Entry]) -> list[Raw | None]:
        kept: list[Raw | None] = []
        for entry in entries:
            kept += entry.inputs if entry.inputs and self._inputs else [None] * entry.count
        return kept


_said = attrgetter(*SAID)


def _ids(entry: Entry) -> list[str]:
    rows = range(entry.count)
    return entry.ids or [row_id(entry.prediction_id, row, entry.count) for row in rows]


def _latencies(entry: Entry) -> list[int]:
    return entry.latencies_us or [entry.latency_us] * entry.count


def _repeated(column: Sequence[Any], counts: list[int]) -> list[Any]:
    return list(chain.from_iterable(map(repeat, column, counts)))


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Make a column; `pa.array` takes longer where nothing need be found out about the values."""
    if kind in INTEGERS:
        data = pa.py_buffer(np.array(values, INTEGERS[kind]))
        return pa.Array.from_buffers(kind, len(values), [None, data])
    if all(value is None for value in values):
        return pa.nulls(len(values), kind)
    return pa.array(values, kind)


def _binary(values: list[Raw | None]) -> pa.Array:
    """Make a column of bytes; `pa.array` never lets go of a memoryview (pyarrow 26)."""
    data = pa.py_buffer(b"".join(value for value in values if value is not None))
    starts = _starts([0 if value is None else len(value) for value in values])
    return pa.Array.from_buffers(pa.binary(), len(values), [_present(values), starts, data])


def _answers(entries: list[Entry]) -> dict[str, pa.Array]:
    """Make the columns of what was answered; neighbours with the same classes as one array."""
    predictions: list[str | None] = []
    widths: list[int] = []
    confidences: list[np.ndarray] = []
    values: list[np.ndarray] = []
    for classes, stack, rows in _stacks(entries):
        if stack is None:
            predictions += [None] * rows
            widths += [0] * rows
            confidences.append(np.zeros(rows, np.float32))
            continue
        predictions += [classes[i] for i in stack.argmax(axis=1).tolist()]
        widths += [stack.shape[1]] * rows
        confidences.append(stack.max(axis=1))
        values.append(stack.ravel())
    present = _present(predictions)
    flat = _floats(np.concatenate(values) if values else np.zeros(0, np.float32))
    return {
        "prediction": _column(predictions, pa.string()),
        "confidence": _floats(np.concatenate(confidences), present),
        "probabilities": _lists(flat, _starts(widths), present),
    }


def _lists(values: pa.Array, starts: pa.Buffer, present: pa.Buffer | None) -> pa.Array:
    """Make a column of lists; `ListArray.from_arrays` loads 9 MB to negate its mask."""
    kind, rows = pa.list_(values.type), starts.size // 4 - 1
    return pa.Array.from_buffers(kind, rows, [present, starts], children=[values])


def _starts(sizes: list[int]) -> pa.Buffer:
    """Make the places where values of these sizes begin, and where the last one ends."""
    starts = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=starts[1:])
    return pa.py_buffer(starts)


def _floats(values: np.ndarray, present: pa.Buffer | None = None) -> pa.Array:
    """Make a column of float32; `pa.array` would load numpy.ma (14 ms) to ask whether it is one."""
    data = pa.py_buffer(np.ascontiguousarray(values, np.float32))
    return pa.Array.from_buffers(pa.float32(), len(values), [present, data])


def _present(values: Sequence[object]) -> pa.Buffer | None:
    """Make the bits that tell which values are there; none where all are."""
    there = [value is not None for value in values]
    return None if all(there) else pa.py_buffer(np.packbits(there, bitorder="little"))


def _stacks(entries: list[Entry]) -> list[tuple[list[str], np.ndarray | None, int]]:
    """Stack the probabilities of neighbours: (classes, (rows, classes) or None, rows) each."""
    found: list[tuple[list[str], np.ndarray | None, int]] = []
    for _, run in groupby(entries, _answered_as):
        same = list(run)
        stacks = [entry.probabilities for entry in same if entry.probabilities is not None]
        has_answers = bool(stacks) and bool(same[0].classes)
        stack = np.concatenate(stacks) if has_answers else None
        found.append((same[0].classes or [], stack, sum(entry.count for entry in same)))
    return found


def _answered_as(entry: Entry) -> int:
    return 0 if entry.probabilities is None else id(entry.classes)


def _features(entries: list[Entry], rows: int, names: list[str]) -> dict[str, pa.Array]:
    """Compute the monitored features, all images of one size at once; `names` are the log's."""
    values = {name: np.full(rows, np.nan, np.float32) for name in names}
    by_shape: dict[tuple[int, ...], tuple[list[int], list[np.ndarray]]] = {}
    start = 0
    for entry in entries:
        if entry.pixels is not None:
            places, stacks = by_shape.setdefault(entry.pixels.shape[1:], ([], []))
            places += range(start, start + entry.count)
            stacks.append(entry.pixels)
        for name, column in (entry.columns or {}).items():
            if requests.FEATURE + name in values:
                values[requests.FEATURE + name][start : start + entry.count] = column
        start += entry.count
    for places, stacks in by_shape.values():
        computed = images.features(np.concatenate(stacks))
        for index, name in enumerate(images.FEATURES):
            if requests.FEATURE + name in values:  # the log is that of another kind of model
                values[requests.FEATURE + name][places] = computed[:, index]
    return {name: _floats(column, _numbers(column)) for name, column in values.items()}


def _numbers(values: np.ndarray) -> pa.Buffer:
    """Make the bits that tell which values are numbers: a feature that is none is missing."""
    return pa.py_buffer(np.packbits(~np.isnan(values), bitorder="little"))
