"""Files on their way into packs: what the packs of the version before lack goes into new ones.

A tar file is the same, byte for byte, for the same files: its headers say nothing of who or when.
"""

import hashlib
import os
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tarfile import GNU_FORMAT, TarInfo

from mlstack import files, packed
from mlstack.packed import Packs
from mlstack.records.base import Record
from mlstack.records.data_folder import Look
from mlstack.records.file_hash import (
    LARGE_BYTES,
    being_written,
    open_to_read,
    size_of,
    sizes_of,
    stamp_of,
)
from mlstack.version import objects
from mlstack.version.placement import folders_above
from mlstack.version.result import Counted

PACK_BYTES = 64 << 20  # a tar file is closed once it is this large
BLOCK = 512  # of tar
WORN = 0.3  # share of dead bytes from which everything is packed anew
GENERATIONS = 50  # likewise
STEP = 500  # files between two movements of the progress bar


@dataclass
class Writer:
    """One generation on its way: its parts under names of their own until it is whole."""

    folder: Path
    number: int
    rows: list[tuple[int, int, int, str, str]] = field(default_factory=list)
    _part: int = -1
    _descriptor: int = -1
    _at: int = 0
    _buffer: bytearray = field(default_factory=bytearray)

    def add(self, path: str, source: int, stamp: bytes) -> str:
        """Copy an open file to the end of the last tar file; give its MD5.

        Raises:
            DataError: the file changes meanwhile.
            OSError: the disk is full.
        """
        size = size_of(stamp)
        self._begin(path, size)
        offset, left, digest = self._at, size, hashlib.md5(usedforsecurity=False)
        while left > 0 and (content := os.read(source, min(left, files.CHUNK_BYTES))):
            digest.update(content)
            self._write(content)
            left -= len(content)
        if left or stamp_of(os.fstat(source)) != stamp:
            raise being_written(path)
        self._write(bytes(-size % BLOCK))
        self.rows.append((self._part, offset, size, digest.hexdigest(), path))
        return digest.hexdigest()

    def take(self, path: str, content: bytes, md5: str) -> None:
        """Write a file from memory to the end of the last tar file."""
        self._begin(path, len(content))
        self.rows.append((self._part, self._at, len(content), md5, path))
        self._write(content)
        self._write(bytes(-len(content) % BLOCK))

    def finish(self) -> None:
        """Close the last tar file, write the table and give all their names."""
        self._close()
        if not self.rows:
            return
        table = packed.table(self.rows)
        stem = f"{self.number:04}-{hashlib.md5(table, usedforsecurity=False).hexdigest()[:8]}"
        for part in range(self._part + 1):
            self._beside(part).rename(self.folder / f"{stem}-{part:03}.tar")
        files.write_bytes(self.folder / f"{stem}{packed.TABLE}", table)

    def drop(self) -> None:
        """Take everything away again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        for part in range(self._part + 1):
            self._beside(part).unlink(missing_ok=True)

    def _begin(self, path: str, size: int) -> None:
        if self._part < 0 or (self._at and self._at + size > PACK_BYTES):
            self._close()
            self._part += 1
            self._at = 0
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            self._descriptor = os.open(self._beside(self._part), flags, 0o644)
        self._write(_header(path, size))

    def _write(self, content: bytes) -> None:
        self._at += len(content)
        self._buffer += content
        if len(self._buffer) >= files.CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        objects.write(self._descriptor, memoryview(bytes(self._buffer)))
        self._buffer.clear()

    def _close(self) -> None:
        if self._descriptor < 0:
            return
        self._write(bytes(2 * BLOCK))
        self._flush()
        os.fsync(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1

    def _beside(self, part: int) -> Path:
        return self.folder / f".{self.number:04}-{part:03}.tar.00000000.tmp"  # `guard.LEFTOVER`


def pack(seen: Look, folder: Path) -> Generator[Record, None, None]:
    """Bring packs up to date with a dataset folder, of which `seen` learns the MD5s.

    Args:
        seen: a fresh look at the dataset folder.
        folder: `NAME.packs`, as it was in the version before.

    Raises:
        DataError: a file changes meanwhile.
        MachineError: the disk is full.
    """
    before = packed.of_folder(folder)
    paths = set(seen.paths())
    try:
        if _clash(before, paths):
            yield from _pack(seen, folder, Packs({}), paths)
        else:
            yield from _pack(seen, folder, before, paths)
        after = packed.of_folder(folder)
        if after.places.keys() != before.places.keys() and is_worn(after):
            yield from _pack(seen, folder, Packs({}), paths)
    except OSError as error:
        raise files.cannot_write(folder, error) from error


def _pack(
    seen: Look, folder: Path, before: Packs, paths: set[str]
) -> Generator[Record, None, None]:
    """Add what `before` lacks, and take away what is not of it."""
    old = [path for path in folder.iterdir() if path.name not in before.places]
    entries = before.entries
    seen.read_unless(entries)
    writer = Writer(folder, _next(before))
    try:
        yield from _add(seen, entries, writer)
        for path in old:
            path.unlink(missing_ok=True)
        writer.finish()
    finally:
        writer.drop()
    _write_removed(folder, {path for path, _ in before.rows} - paths)


def settle(folder: Path, wanted: dict[str, str], read: Callable[[str], bytes]) -> None:
    """Have packs that were put together from two versions give just the wanted files.

    Args:
        folder: with the packs of both.
        wanted: MD5 of each file by its path.
        read: gives the content of each of them by its MD5.
    """
    both = packed.of_folder(folder)
    if _clash(both, set(wanted)):
        for place in both.places.values():
            place.unlink()
        both = Packs({})
    live = dict(both.rows)
    writer = Writer(folder, _next(both))
    for path in sorted(wanted):
        if path not in live or live[path].md5 != wanted[path]:
            writer.take(path, read(wanted[path]), wanted[path])
    writer.finish()
    _write_removed(folder, live.keys() - wanted.keys())


def is_worn(packs: Packs) -> bool:
    """Tell whether so much in the packs is dead that packing everything anew pays."""
    total = sum(member.size_bytes for _, member in packs.rows)
    live = sum(member.size_bytes for member in packs.members.values())
    tables = sum(name.endswith(packed.TABLE) for name in packs.places)
    return total - live > WORN * total or tables > GENERATIONS


def _clash(packs: Packs, paths: set[str]) -> bool:
    """Tell whether a file became a folder, or a folder a file: tar cannot extract that."""
    gone = {path for path, _ in packs.rows} - paths
    folders = {one for path in paths for one in folders_above(path)}
    were = {one for path in gone for one in folders_above(path)}
    return not gone.isdisjoint(folders) or not were.isdisjoint(paths)


def _add(seen: Look, entries: dict[str, str], writer: Writer) -> Generator[Record, None, None]:
    found = seen.found()
    sizes = sizes_of(found)
    top, total, done = len(str(seen.folder)) + 1, sum(sizes), 0
    for number, (place, _) in enumerate(found):
        path = place[top:]
        descriptor = open_to_read(place)
        try:
            stamp = stamp_of(os.fstat(descriptor))
            add = _add_small if size_of(stamp) < LARGE_BYTES else _add_large
            md5 = add(writer, (path, entries.get(path, "")), descriptor, stamp)
        finally:
            os.close(descriptor)
        seen.learn(number, bytes.fromhex(md5), stamp)
        done += sizes[number]
        if number % STEP == 0:
            yield Counted(text="into packs", done=done, total=total, unit="bytes")


def _add_small(writer: Writer, known: tuple[str, str], descriptor: int, stamp: bytes) -> str:
    """Read a file once; give its MD5. `known` is its path and the MD5 that the packs have of it."""
    content = os.read(descriptor, size_of(stamp) + 1)
    if len(content) != size_of(stamp) or stamp_of(os.fstat(descriptor)) != stamp:
        raise being_written(known[0])
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 != known[1]:
        writer.take(known[0], content, md5)
    return md5


def _add_large(writer: Writer, known: tuple[str, str], descriptor: int, stamp: bytes) -> str:
    """Read a file twice if it is new, rather than hold it in memory."""
    md5 = files.md5_of_descriptor(descriptor, size_of(stamp)).hex()
    if md5 == known[1]:
        return md5
    os.lseek(descriptor, 0, os.SEEK_SET)
    return writer.add(known[0], descriptor, stamp)


def _write_removed(folder: Path, dead: Iterable[str]) -> None:
    path = folder / packed.REMOVED
    content = "".join(f"{name}\0" for name in sorted(dead)).encode(errors="surrogateescape")
    if not content:
        path.unlink(missing_ok=True)
    elif not path.is_file() or path.read_bytes() != content:
        files.write_bytes(path, content)


def _next(packs: Packs) -> int:
    return 1 + max((int(name[:4]) for name in packs.places if name[:4].isdigit()), default=0)


def _header(path: str, size: int) -> bytes:
    """Write the header of a regular file of mode 0644 as GNU tar does, long names too."""
    if len(path) > 99 or not path.isascii() or size >= 8 << 30:
        info = TarInfo(path)
        info.size, info.mode = size, 0o644
        return info.tobuf(GNU_FORMAT, "utf-8", "surrogateescape")
    filled = bytearray(TEMPLATE)
    filled[: len(path)] = path.encode()
    filled[124:135] = b"%011o" % size
    filled[148:156] = b"%06o\0 " % sum(filled)
    return bytes(filled)


TEMPLATE = TarInfo("").tobuf(GNU_FORMAT)[:148] + b" " * 8 + TarInfo("").tobuf(GNU_FORMAT)[156:]
