"""Columns as batches of an Arrow IPC stream, laid out here instead of by pyarrow.

The log makes a batch of a hundred rows many times a second, beside requests that wait for the same
core, and fifteen small arrays by pyarrow keep them waiting longer than this does. What it knows is
what the log holds: numbers, texts, bytes and lists of float32.
Format: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from flatbuffers.builder import Builder

from mlstack.records.requests import Kind

Raw = bytes | memoryview

END = b"\xff\xff\xff\xff\0\0\0\0"
SCHEMA, BATCH = 1, 3  # MessageHeader
VERSION = 4  # MetadataVersion.V5
ALIGNED = 8
PADS = [b"\0" * size for size in range(ALIGNED)]
WIDTHS: dict[str, str] = {"int16": "h", "int32": "i", "int64": "q"}  # of the module array
KEPT_ROWS = 1024  # larger columns are not kept for the next batch: they may be of any size
JOINED_BYTES = 4 << 10  # values below this size, on average, are copied into one piece
# What stands for the numbers that each batch has of its own: its rows, the bytes behind its head,
# and two for each node and each buffer.
ROWS, BODY, NODE, BUFFER = (struct.pack("<Q", 0x5AFE_0000_D00D_0001 + n) for n in range(4))
TYPES: dict[str, int] = {"int16": 2, "int32": 2, "int64": 2, "float32": 3, "binary": 4}  # Type
TYPES |= {"string": 5, "list<float32>": 12}
SINGLE = 1  # Precision


@dataclass(slots=True)
class Column:
    """A column of one batch; its buffers come in pieces, for large ones are not joined."""

    rows: int
    missing: int
    buffers: list[list[Raw]]  # which values are there, then what the kind needs
    values: "Column | None" = None  # of lists


class Stream:
    """What is the same for all batches of one schema."""

    def __init__(self, kinds: dict[str, Kind]) -> None:
        self.begin = _message(SCHEMA, lambda builder: _schema(builder, kinds))
        # a node and two buffers for each column and each column inside of one; texts have three
        nodes = len(kinds) + sum(kind == "list<float32>" for kind in kinds.values())
        buffers = 2 * nodes + sum(kind in ("string", "binary") for kind in kinds.values())
        self._nodes = struct.Struct(f"<{2 * nodes}q")
        self._buffers = struct.Struct(f"<{2 * buffers}q")
        self._head = _message(BATCH, lambda builder: _batch(builder, nodes, buffers), _number(BODY))
        self._places = [self._head.index(number) for number in (ROWS, BODY, NODE, BUFFER)]

    def batch(self, columns: Iterable[Column]) -> list[Raw]:
        """Give the pieces of a batch of these columns, which come in the order of the schema."""
        nodes: list[int] = []
        buffers: list[int] = []
        pieces: list[Raw] = [b""]
        offset = 0
        for column in _with_values(columns):
            nodes += (column.rows, column.missing)
            for buffer in column.buffers:
                size = sum(map(len, buffer))
                buffers += (offset, size)
                pieces += buffer
                if pad := -size % ALIGNED:
                    pieces.append(PADS[pad])
                offset += size + pad
        head = bytearray(self._head)
        at_rows, at_body, at_nodes, at_buffers = self._places
        struct.pack_into("<q", head, at_rows, nodes[0])
        struct.pack_into("<q", head, at_body, offset)
        self._nodes.pack_into(head, at_nodes, *nodes)
        self._buffers.pack_into(head, at_buffers, *buffers)
        pieces[0] = bytes(head)
        return pieces


def _with_values(columns: Iterable[Column]) -> Iterator[Column]:
    """Put what is inside of lists behind them, as the format does."""
    for column in columns:
        yield column
        if column.values is not None:
            yield column.values


def integers(values: Sequence[int], kind: Kind) -> Column:
    """Make a column of whole numbers."""
    return Column(len(values), 0, [[], [array(WIDTHS[kind], values).tobytes()]])


def floats(values: np.ndarray, there: np.ndarray | None = None) -> Column:
    """Make a column of float32; `there` tells which of them are no missing ones."""
    data = np.ascontiguousarray(values, np.float32).tobytes()
    missing, bits = _bits(there)
    return Column(len(values), missing, [bits, [data]])


def texts(values: Sequence[str | None]) -> Column:
    """Make a column of texts."""
    rows = len(values)
    there = [value for value in values if value is not None]
    whole = "".join(there)
    if len(there) == rows and whole.isascii():
        return Column(rows, 0, [[], [_ends(map(len, there))], [whole.encode()]])
    return binaries([None if value is None else value.encode() for value in values])


def column_of(values: Sequence[Any], kind: Kind) -> Column:
    """Make a column of texts or whole numbers."""
    return texts(values) if kind == "string" else integers(values, kind)


def same(value: str | int | None, rows: int, kind: Kind) -> Column:
    """Make a column of the same text or number in all rows; most batches are as large as others."""
    return (_kept if rows <= KEPT_ROWS else _filled)(value, rows, kind)


def _filled(value: str | int | None, rows: int, kind: Kind) -> Column:
    return nothing(rows, kind) if value is None else column_of([value] * rows, kind)


_kept = lru_cache(maxsize=256)(_filled)


def binaries(values: Sequence[Raw | None]) -> Column:
    """Make a column of bytes; large ones are not copied."""
    pieces = [value for value in values if value is not None]
    there = None
    if len(pieces) < len(values):
        there = np.array([value is not None for value in values], bool)
    missing, bits = _bits(there)
    sizes = [0 if value is None else len(value) for value in values]
    if sum(sizes) < JOINED_BYTES * len(sizes):
        pieces = [b"".join(pieces)]
    return Column(len(values), missing, [bits, [_ends(sizes)], pieces])


def lists(sizes: Sequence[int], values: np.ndarray, there: np.ndarray | None) -> Column:
    """Make a column of lists of float32, of these sizes, one behind the other in `values`."""
    missing, bits = _bits(there)
    return Column(len(sizes), missing, [bits, [_ends(sizes)]], floats(values))


def nothing(rows: int, kind: Kind) -> Column:
    """Make a column in which every value is missing."""
    bits: list[Raw] = [bytes(-(-rows // 8))]
    if kind in ("string", "binary"):
        return Column(rows, rows, [bits, [bytes(4 * (rows + 1))], []])
    if kind == "list<float32>":
        inside = floats(np.zeros(0, np.float32))
        return Column(rows, rows, [bits, [bytes(4 * (rows + 1))]], inside)
    width = 4 if kind == "float32" else array(WIDTHS[kind]).itemsize
    return Column(rows, rows, [bits, [bytes(rows * width)]])


def _ends(sizes: Iterable[int]) -> bytes:
    """Make the places where values of these sizes begin, and where the last one ends."""
    return array("i", accumulate(sizes, initial=0)).tobytes()


def _bits(there: np.ndarray | None) -> tuple[int, list[Raw]]:
    if there is None or there.all():
        return 0, []
    return int(len(there) - there.sum()), [np.packbits(there, bitorder="little").tobytes()]


def _number(packed: bytes) -> int:
    return int.from_bytes(packed, "little")


def _message(kind: int, header: Callable[[Builder], int], body_bytes: int = 0) -> bytes:
    builder = Builder(1024)
    at = header(builder)
    builder.StartObject(5)
    builder.PrependInt16Slot(0, VERSION, 0)
    builder.PrependUint8Slot(1, kind, 0)
    builder.PrependUOffsetTRelativeSlot(2, at, 0)
    builder.PrependInt64Slot(3, body_bytes, 0)
    builder.Finish(builder.EndObject())
    data = bytes(builder.Output())
    data += PADS[-len(data) % ALIGNED]
    return END[:4] + struct.pack("<i", len(data)) + data


def _batch(builder: Builder, nodes: int, buffers: int) -> int:
    ends = []
    for count, number in ((nodes, NODE), (buffers, BUFFER)):
        builder.StartVector(16, count, 8)
        for _ in range(2 * count):
            builder.PrependInt64(_number(number))
        ends.append(builder.EndVector())
    builder.StartObject(4)
    builder.PrependInt64Slot(0, _number(ROWS), 0)
    builder.PrependUOffsetTRelativeSlot(1, ends[0], 0)
    builder.PrependUOffsetTRelativeSlot(2, ends[1], 0)
    end: int = builder.EndObject()
    return end


def _schema(builder: Builder, kinds: dict[str, Kind]) -> int:
    fields = _vector(builder, [_field(builder, name, kind) for name, kind in kinds.items()])
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(1, fields, 0)
    end: int = builder.EndObject()
    return end


def _field(builder: Builder, name: str, kind: Kind) -> int:
    inner = [_field(builder, "item", "float32")] if kind == "list<float32>" else []
    children = _vector(builder, inner)
    text = builder.CreateString(name)
    described = _type(builder, kind)
    builder.StartObject(7)
    builder.PrependUOffsetTRelativeSlot(0, text, 0)
    builder.PrependBoolSlot(1, True, False)  # a value may be missing
    builder.PrependUint8Slot(2, TYPES[kind], 0)
    builder.PrependUOffsetTRelativeSlot(3, described, 0)
    builder.PrependUOffsetTRelativeSlot(5, children, 0)
    end: int = builder.EndObject()
    return end


def _type(builder: Builder, kind: Kind) -> int:
    if kind in WIDTHS:
        builder.StartObject(2)
        builder.PrependInt32Slot(0, 8 * array(WIDTHS[kind]).itemsize, 0)
        builder.PrependBoolSlot(1, True, False)  # it is signed
    elif kind == "float32":
        builder.StartObject(1)
        builder.PrependInt16Slot(0, SINGLE, 0)
    else:
        builder.StartObject(0)
    end: int = builder.EndObject()
    return end


def _vector(builder: Builder, places: list[int]) -> int:
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    end: int = builder.EndVector()
    return end
