"""The metadata inside an ONNX file, read without onnx: `mlstack.lineage` and its neighbours.

A model file is protobuf (onnx.proto3, ModelProto). Its weights are one field of hundreds of
megabytes; the reader seeks over it and reads a few kilobytes.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mlstack.errors import DataError

PREFIX = "mlstack."  # of every key that `export` writes
LINEAGE = f"{PREFIX}lineage"  # a `lineage.embedded`, as JSON

METADATA = 14  # ModelProto.metadata_props
KEY, VALUE = 1, 2  # StringStringEntryProto
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
LARGEST_BYTES = 16 << 20  # of one entry


def metadata(path: Path) -> dict[str, str]:
    """Read the key-value pairs of a model file.

    Raises:
        DataError: it cannot be read, or is not a whole ONNX file.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            entries = [_entry(stream, end) for end in _found(stream, size)]
    except (EOFError, UnicodeDecodeError) as error:
        raise DataError(f"`{path}` is not a whole ONNX file") from error
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror}") from error
    return dict(entries)


def _found(stream: BinaryIO, size: int) -> Iterator[int]:
    """Stop at each entry of the metadata and give where it ends."""
    while stream.tell() < size:
        number, end = _field(stream, size)
        if number == METADATA:
            if end - stream.tell() > LARGEST_BYTES:
                raise EOFError(end)
            yield end
        stream.seek(end)


def _entry(stream: BinaryIO, end: int) -> tuple[str, str]:
    parts = {KEY: b"", VALUE: b""}
    while stream.tell() < end:
        number, stop = _field(stream, end)
        parts[number] = stream.read(stop - stream.tell())
    return parts[KEY].decode(), parts[VALUE].decode()


def _field(stream: BinaryIO, limit: int) -> tuple[int, int]:
    """Read a field's key; give its number and where its content ends."""
    key = _varint(stream)
    number, kind = key >> 3, key & 7
    if kind == VARINT:
        _varint(stream)
        length = 0
    elif kind == BYTES:
        length = _varint(stream)
    elif kind in (FIXED64, FIXED32):
        length = 8 if kind == FIXED64 else 4
    else:
        raise EOFError(kind)
    end = stream.tell() + length
    if number == 0 or end > limit:
        raise EOFError(end)
    return number, end


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise EOFError(value)
