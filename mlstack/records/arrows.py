"""Plain columns of an Arrow IPC stream, read without pyarrow: one row is found in milliseconds.

Format: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format. Numbers and texts
are read, uncompressed, which is what the request log writes; a batch cut off by a crash ends the
reading, as it does in `requests.read_wal`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

Cell = str | int | float | None

SCHEMA, BATCH = 1, 3  # MessageHeader
INT, FLOAT, BINARY, UTF8, LIST = 2, 3, 4, 5, 12  # Type
BUFFERS = {INT: 2, FLOAT: 2, BINARY: 3, UTF8: 3}
FORMATS = {(INT, 16): "h", (INT, 32): "i", (INT, 64): "q", (FLOAT, 1): "f", (FLOAT, 2): "d"}


@dataclass(frozen=True)
class Column:
    """A field of the schema and which of a batch's buffers are its own."""

    kind: int
    format: str  # of `struct`, for numbers
    buffer: int
    node: int


@dataclass(frozen=True)
class Batch:
    """A record batch whose cells are decoded when they are asked for."""

    raw: memoryview
    columns: dict[str, Column]
    rows: int
    buffers: list[tuple[int, int]]  # offset in `raw`, length

    def cell(self, name: str, row: int) -> Cell:
        """Give one value; None is null."""
        column = self.columns[name]
        valid, length = self.buffers[column.buffer]
        if length and not self.raw[valid + row // 8] >> row % 8 & 1:
            return None
        start = self.buffers[column.buffer + 1][0]
        if column.format:
            value: int | float = _number(self.raw, column.format, start, row)
            return value
        first, last = (_number(self.raw, "i", start, row + more) for more in (0, 1))
        text = self.buffers[column.buffer + 2][0]
        return bytes(self.raw[text + first : text + last]).decode()


def batches(raw: memoryview) -> Iterator[Batch]:
    """Yield the whole batches of a stream; lists and what follows them are left out."""
    columns: dict[str, Column] = {}
    position = 0
    while position + 8 <= len(raw):
        marker, length = struct.unpack_from("<Ii", raw, position)
        body = position + 8 + length
        if marker != 0xFFFFFFFF or length <= 0 or body > len(raw):
            return
        message = _Table.root(raw, position + 8)
        position = body + message.number(3, "q")
        if position > len(raw):
            return
        if message.number(1, "B") == SCHEMA:
            columns = _columns(message.table(2))
        elif message.number(1, "B") == BATCH:
            yield _batch(raw, columns, message.table(2), body)


@dataclass(frozen=True)
class _Table:
    """A flatbuffers table: fields are found by their place in the vtable."""

    raw: memoryview
    start: int

    @classmethod
    def root(cls, raw: memoryview, at: int) -> "_Table":
        return cls(raw, at + struct.unpack_from("<I", raw, at)[0])

    def place(self, field: int) -> int:
        """Give where a field is; 0 when it has its default."""
        vtable = self.start - struct.unpack_from("<i", self.raw, self.start)[0]
        if 4 + 2 * field >= struct.unpack_from("<H", self.raw, vtable)[0]:
            return 0
        offset: int = struct.unpack_from("<H", self.raw, vtable + 4 + 2 * field)[0]
        return self.start + offset if offset else 0

    def number(self, field: int, kind: str) -> int:
        place = self.place(field)
        return int(struct.unpack_from(f"<{kind}", self.raw, place)[0]) if place else 0

    def table(self, field: int) -> "_Table":
        return _Table.root(self.raw, self.place(field))

    def text(self, field: int) -> str:
        start, length = self.vector(field)
        return bytes(self.raw[start : start + length]).decode()

    def vector(self, field: int) -> tuple[int, int]:
        """Give where a vector's items begin, and their number."""
        place = self.place(field)
        if not place:
            return 0, 0
        start = place + struct.unpack_from("<I", self.raw, place)[0]
        return start + 4, struct.unpack_from("<I", self.raw, start)[0]

    def tables(self, field: int) -> "Iterator[_Table]":
        start, count = self.vector(field)
        for index in range(count):
            yield _Table.root(self.raw, start + 4 * index)


def _columns(schema: _Table) -> dict[str, Column]:
    found: dict[str, Column] = {}
    buffer = 0
    for node, field in enumerate(schema.tables(1)):
        kind = field.number(2, "B")
        if kind not in BUFFERS:
            break
        inner = field.table(3)
        size = inner.number(0, "i") if kind == INT else inner.number(0, "h")
        form = FORMATS[kind, size] if kind in (INT, FLOAT) else ""
        found[field.text(0)] = Column(kind, form, buffer, node)
        buffer += BUFFERS[kind]
    return found


def _batch(raw: memoryview, columns: dict[str, Column], header: _Table, body: int) -> Batch:
    start, count = header.vector(2)
    places = [struct.unpack_from("<qq", raw, start + 16 * index) for index in range(count)]
    return Batch(
        raw=raw,
        columns=columns,
        rows=header.number(0, "q"),
        buffers=[(body + offset, length) for offset, length in places],
    )


def _number(raw: memoryview, form: str, start: int, row: int) -> int:
    value: int = struct.unpack_from(f"<{form}", raw, start + struct.calcsize(form) * row)[0]
    return value
