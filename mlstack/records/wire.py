"""Protobuf's wire format, read strictly: what no writer writes is refused.

A tag of five bytes is cut to 32 bits by one library and not by another. Whoever looks into a
foreign file must see what the library that opens it sees, or refuse the file.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from mlstack.errors import DataError

MAX_FIELDS = 3_000_000  # about a second; a graph of 10,000 nodes has 300,000
MESSAGE = 3  # looking into a message costs as much as so many fields,
BYTES_A_FIELD = 20  # and one field as much as so many bytes of a list of numbers
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# At most 64 bits, and not a byte longer than needed.
_VARINT = rb"(?:[\x00-\x7f]|[\x80-\xff]{1,8}[\x01-\x7f]|[\x80-\xff]{9}\x01)"
_NUMBER = re.compile(_VARINT, re.DOTALL)
# Field 8 of whole numbers and 7 of floats: the lists of an attribute, one tag for every number.
_LISTS = {
    0x40: re.compile(rb"(?:\x40" + _VARINT + rb"){1,1000}", re.DOTALL),
    0x3D: re.compile(rb"(?:\x3d.{4}){1,1000}", re.DOTALL),
}

Field = tuple[int, int, int, int]  # its number, its wire type, where its value begins and ends


class Reader:
    """Reads the messages of one file, up to a number of fields in all."""

    def __init__(self, content: memoryview, path: Path) -> None:
        self._content = content
        self._path = path
        self._left = MAX_FIELDS

    def fields(self, position: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message between two places; a list of numbers as few of them.

        Raises:
            DataError: it is cut off, is written as no writer does, or holds too much to look at.
        """
        content = self._content
        self._spend(MESSAGE)
        while position < end:
            self._spend(1)
            tag = content[position]
            if tag in _LISTS and (found := _LISTS[tag].match(content, position, end)):
                yield tag >> 3, tag & 7, position, found.end()
                self._spend((found.end() - position) // BYTES_A_FIELD)
                position = found.end()
                continue
            tag, position = self._number(position, end)
            kind = tag & 7
            if not 0 < tag >> 3 < 1 << 29:
                raise self._broken()
            if kind == BYTES:
                size, position = self._number(position, end)
                stop = position + size
            elif kind == VARINT:
                stop = self._number(position, end)[1]
            elif kind in (FIXED64, FIXED32):
                stop = position + (8 if kind == FIXED64 else 4)
            else:
                raise self._broken()
            if stop > end:
                raise self._broken()
            yield tag >> 3, kind, position, stop
            position = stop

    def text(self, begin: int, end: int) -> str:
        """Give a string.

        Raises:
            DataError: it is not UTF-8.
        """
        try:
            return bytes(self._content[begin:end]).decode()
        except UnicodeDecodeError as error:
            raise self._broken() from error

    def is_zero(self, begin: int, end: int) -> bool:
        """Tell whether a number is 0."""
        return bytes(self._content[begin:end]) == b"\0"

    def _number(self, position: int, end: int) -> tuple[int, int]:
        if position < end and self._content[position] < 0x80:
            return self._content[position], position + 1
        found = _NUMBER.match(self._content, position, end)
        if found is None:
            raise self._broken()
        value = 0
        for byte in reversed(found[0]):
            value = value << 7 | byte & 0x7F
        return value, found.end()

    def _spend(self, fields: int) -> None:
        self._left -= fields
        if self._left < 0:
            raise DataError(
                f"`{self._path}` holds more than {MAX_FIELDS:,} fields; it is not looked through",
                hint="export the model again, its weights as raw data and its functions inlined",
            )

    def _broken(self) -> DataError:
        return DataError(
            f"`{self._path}` is not a whole ONNX file, or written as no exporter writes",
            hint="fetch it again, or export the model again",
        )
