"""Single cells of a Parquet file, read without pyarrow: one row is found in milliseconds.

Format: https://parquet.apache.org/docs/file-format/. Flat columns of numbers and texts are read, as
the request log has them: data pages of version 1, plain or by dictionary, uncompressed or zstd (by
the system's libzstd). Anything else raises NotImplementedError, and the caller takes another way.
"""

import ctypes
import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Cell = str | int | float | None

NUMBERS = {1: "<i", 2: "<q", 4: "<f", 5: "<d"}  # physical types INT32, INT64, FLOAT, DOUBLE
TEXT = 6  # BYTE_ARRAY
UNCOMPRESSED, ZSTD = 0, 6
PLAIN, BY_DICTIONARY = 0, (2, 8)
DATA_PAGE, DICTIONARY_PAGE = 0, 2
Struct = dict[int, Any]


def find(raw: memoryview, key: str, wanted: str, columns: tuple[str, ...]) -> list[Cell] | None:
    """Give cells of the first row whose column `key` is a text; None when there is none.

    Raises:
        NotImplementedError: the file is written in a way that is not read here.
        ValueError: it is no Parquet file.
    """
    for group in _footer(raw)[4]:
        chunks = {chunk[3][3][0].decode(): chunk[3] for chunk in group[1]}
        if not _may_hold(chunks[key], wanted.encode()):
            continue
        row = _row_of(_Chunk.read(raw, chunks[key]), wanted.encode())
        if row is not None:
            return [_Chunk.read(raw, chunks[name]).cell(row) for name in columns]
    return None


def _footer(raw: memoryview) -> Struct:
    if len(raw) < 12 or bytes(raw[-4:]) != b"PAR1":
        raise ValueError("not a Parquet file")
    (length,) = struct.unpack("<I", raw[-8:-4])
    return _Thrift(raw, len(raw) - 8 - length).struct()


def _may_hold(chunk: Struct, wanted: bytes) -> bool:
    statistics: Struct = chunk.get(12, {})
    low, high = statistics.get(6), statistics.get(5)
    return low is None or high is None or low <= wanted <= high


@dataclass(frozen=True)
class _Page:
    """A data page: where its values are among those of its column."""

    first: int  # row
    rows: int
    levels: memoryview  # which rows have a value, empty when all have
    by_dictionary: bool
    values: memoryview


@dataclass(frozen=True)
class _Chunk:
    """A column of a row group."""

    kind: int
    dictionary: bytes
    starts: list[int]  # of texts in the dictionary
    pages: list[_Page]

    @classmethod
    def read(cls, raw: memoryview, meta: Struct) -> "_Chunk":
        kind, dictionary, pages, row = meta[1], b"", [], 0
        for header, content in _pages(raw, meta):
            if header[1] == DICTIONARY_PAGE:
                dictionary = bytes(content)
                continue
            about = header[5]
            (length,) = struct.unpack("<I", content[:4])
            pages.append(
                _Page(
                    first=row,
                    rows=about[1],
                    levels=content[4 : 4 + length],
                    by_dictionary=about[2] in BY_DICTIONARY,
                    values=content[4 + length :],
                )
            )
            if about[2] not in (PLAIN, *BY_DICTIONARY):
                raise NotImplementedError(f"encoding {about[2]}")
            row += about[1]
        starts = _starts(dictionary) if kind == TEXT else []
        return cls(kind, dictionary, starts, pages)

    def cell(self, row: int) -> Cell:
        """Give the value of a row."""
        page = next(p for p in self.pages if p.first <= row < p.first + p.rows)
        place = row - page.first
        if not _at(page.levels, 1, place):
            return None
        before = _ones(page.levels, place)
        if not page.by_dictionary:
            return self._plain(bytes(page.values), before, [])
        return self._plain(
            self.dictionary, _at(page.values[1:], page.values[0], before), self.starts
        )

    def _plain(self, content: bytes, index: int, starts: list[int]) -> Cell:
        if self.kind == TEXT:
            start = (starts or _starts(content))[index]
            (length,) = struct.unpack_from("<I", content, start - 4)
            return content[start : start + length].decode()
        form = NUMBERS.get(self.kind)
        if form is None:
            raise NotImplementedError(f"physical type {self.kind}")
        number: int | float = struct.unpack_from(form, content, index * struct.calcsize(form))[0]
        return number


def _row_of(chunk: _Chunk, wanted: bytes) -> int | None:
    """Find the row of a text in a column without nulls whose values are all different."""
    entry = struct.pack("<I", len(wanted)) + wanted
    index = _index_of(chunk.dictionary, chunk.starts, entry)
    for page in chunk.pages:
        if _ones(page.levels, page.rows) != page.rows:
            raise NotImplementedError("a key that is null")
        if page.by_dictionary:
            place = _place_of(page, index, page.first) if index is not None else None
        else:
            content = bytes(page.values)
            place = _index_of(content, _starts(content), entry) if entry in content else None
        if place is not None:
            return page.first + place
    return None


def _index_of(content: bytes, starts: list[int], entry: bytes) -> int | None:
    place = content.find(entry)
    while place >= 0:
        if place + 4 in starts:
            return starts.index(place + 4)
        place = content.find(entry, place + 1)
    return None


def _place_of(page: _Page, index: int, first: int) -> int | None:
    """Find where a page names an entry of the dictionary; most often they are in order."""
    width, indices = page.values[0], page.values[1:]
    likely = index - first
    if 0 <= likely < page.rows and _at(indices, width, likely) == index:
        return likely
    return next((place for place in range(page.rows) if _at(indices, width, place) == index), None)


def _starts(content: bytes) -> list[int]:
    """Tell where each text of a plain page begins."""
    found, position, end = [], 0, len(content)
    unpack = struct.Struct("<I").unpack_from
    while position < end:
        found.append(position + 4)
        position += 4 + unpack(content, position)[0]
    return found


def _runs(content: memoryview, width: int) -> Iterator[tuple[int, bool, memoryview]]:
    """Yield the runs of the RLE hybrid: number of values, whether packed by bits, the bytes."""
    position, size = 0, (width + 7) // 8
    while position < len(content):
        header, position = _varint(content, position)
        count = header >> 1
        length = count * width if header & 1 else size
        yield (count * 8 if header & 1 else count), bool(header & 1), content[position:][:length]
        position += length


def _at(content: memoryview, width: int, place: int) -> int:
    for count, is_packed, part in _runs(content, width):
        if place >= count:
            place -= count
        elif not is_packed:
            return int.from_bytes(part, "little")
        else:
            bit = place * width
            some = int.from_bytes(part[bit // 8 : (bit + width + 7) // 8], "little")
            return some >> bit % 8 & (1 << width) - 1
    raise ValueError("a page is cut off")


def _ones(content: memoryview, before: int) -> int:
    """Count the levels of 1 among the first ones: the rows that have a value."""
    total = 0
    for count, is_packed, part in _runs(content, 1):
        taken = min(count, before)
        if is_packed:
            total += (int.from_bytes(part, "little") & (1 << taken) - 1).bit_count()
        elif part[0]:
            total += taken
        before -= taken
        if not before:
            break
    return total


def _pages(raw: memoryview, meta: Struct) -> Iterator[tuple[Struct, memoryview]]:
    """Yield the headers and the contents of a column's pages."""
    position = min(meta[9], meta.get(11, meta[9]))
    end = position + meta[7]
    while position < end:
        thrift = _Thrift(raw, position)
        header = thrift.struct()
        if header[1] not in (DATA_PAGE, DICTIONARY_PAGE):
            raise NotImplementedError(f"page type {header[1]}")
        position = thrift.position + header[3]
        yield header, _decompressed(raw[thrift.position : position], meta[4], header[2])


def _decompressed(content: memoryview, codec: int, size: int) -> memoryview:
    if codec == UNCOMPRESSED:
        return content
    if codec != ZSTD:
        raise NotImplementedError(f"codec {codec}")
    target = ctypes.create_string_buffer(size)
    given = bytes(content)
    if _zstd()(target, size, given, len(given)) != size:
        raise ValueError("a page is damaged")
    return memoryview(target.raw)


@functools.cache
def _zstd() -> Any:
    """Give the function of libzstd that decompresses.

    Raises:
        NotImplementedError: the system has no libzstd.
    """
    try:
        function = ctypes.CDLL("libzstd.so.1").ZSTD_decompress
    except OSError as error:
        raise NotImplementedError("there is no libzstd") from error
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    return function


class _Thrift:
    """Read the compact protocol into dicts by field number."""

    def __init__(self, raw: memoryview, position: int) -> None:
        self.raw = raw
        self.position = position

    def struct(self) -> Struct:
        """Read the fields of a struct."""
        found: Struct = {}
        number = 0
        while (head := self._byte()) & 15:
            number = number + (head >> 4) if head >> 4 else self._signed()
            found[number] = self._value(head & 15)
        return found

    def _value(self, kind: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 8:
            return self._bytes(self._varint())
        if kind == 9:
            head = self._byte()
            count = head >> 4 if head >> 4 != 15 else self._varint()
            return [self._value(head & 15) for _ in range(count)]
        if kind == 12:
            return self.struct()
        if kind in (3, 7):
            return self._bytes(1 if kind == 3 else 8)
        raise NotImplementedError(f"thrift type {kind}")

    def _byte(self) -> int:
        self.position += 1
        return self.raw[self.position - 1]

    def _bytes(self, length: int) -> bytes:
        self.position += length
        return bytes(self.raw[self.position - length : self.position])

    def _varint(self) -> int:
        value, self.position = _varint(self.raw, self.position)
        return value

    def _signed(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)


def _varint(raw: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
