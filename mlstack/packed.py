"""Many small files in a few large tar files: where each one lies, and its bytes.

`NAME.packs/` holds generations. A generation is a table `GGGG-HASH.tsv` of what its tar files
`GGGG-HASH-PPP.tar` hold: part, offset in bytes, size in bytes, MD5 and path of each file, in their
order. Extracting all tar files in the order of their names, then removing the paths that
`removed` lists (each ended by a zero byte), gives the dataset; so does reading here, without
extracting anything. The format is in docs/formats.md.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from mlstack.errors import DataError

SUFFIX = ".packs"
TABLE = ".tsv"
REMOVED = "removed"
PIECE_BYTES = 8 << 20
NAME = re.compile(r"\d{4}-[0-9a-f]{8}(-\d{3,}\.tar|\.tsv)|removed|\..*\.tmp")
ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r"))


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a tar file."""

    pack: str  # name of the tar file
    offset: int  # of its content, in bytes
    size_bytes: int
    md5: str


@dataclass(frozen=True)
class Packs:
    """The packs of one version, wherever each of their files lies."""

    places: Mapping[str, Path]  # name in NAME.packs -> file
    _open: dict[str, int] = field(default_factory=dict)

    @cached_property
    def members(self) -> dict[str, Member]:
        """Where each file of the dataset lies, by its path.

        Raises:
            DataError: a table is damaged.
        """
        found = dict(self.rows)
        for path in self.removed():
            found.pop(path, None)
        return found

    @property
    def entries(self) -> dict[str, str]:
        """The MD5 of each file of the dataset by its path."""
        return {path: member.md5 for path, member in self.members.items()}

    def read(self, path: str) -> bytes:
        """Read a file of the dataset.

        Raises:
            KeyError: there is no such file.
            DataError: its tar file is gone or cut off.
        """
        return b"".join(self.pour(path))

    def pour(self, path: str) -> Iterator[bytes]:
        """Read a file of the dataset in pieces: one call to the kernel gives 2 GiB at most.

        Raises:
            KeyError, DataError: as `read`.
        """
        member = self.members[path]
        if member.pack not in self._open:
            try:
                self._open[member.pack] = os.open(self.places[member.pack], os.O_RDONLY)
            except (KeyError, OSError) as error:
                raise self._damaged(member.pack, "cannot be read") from error
        at, end = member.offset, member.offset + member.size_bytes
        while at < end:
            content = os.pread(self._open[member.pack], min(end - at, PIECE_BYTES), at)
            if not content:
                raise self._damaged(member.pack, "is cut off")
            at += len(content)
            yield content

    @cached_property
    def rows(self) -> list[tuple[str, Member]]:
        """Path and place of all that the tar files hold, also of what is dead by now.

        Raises:
            DataError: a table is damaged.
        """
        tables = [name for name in sorted(self.places) if name.endswith(TABLE)]
        return [row for name in tables for row in self._table(name)]

    def removed(self) -> list[str]:
        """List the paths that the tar files hold and the dataset does not."""
        place = self.places.get(REMOVED)
        if place is None:
            return []
        return place.read_bytes().decode(errors="surrogateescape").split("\0")[:-1]

    def _table(self, name: str) -> Iterator[tuple[str, Member]]:
        stem = name.removesuffix(TABLE)
        try:
            content = self.places[name].read_bytes()
            for line in content.decode(errors="surrogateescape").split("\n")[:-1]:
                part, offset, size, md5, path = line.split("\t")
                member = Member(f"{stem}-{part}.tar", int(offset), int(size), md5)
                yield unescaped(path) if "\\" in path else path, member
        except (OSError, ValueError) as error:
            raise self._damaged(name, "is no table of packed files") from error

    def _damaged(self, name: str, what: str) -> DataError:
        return DataError(
            f"`{self.places.get(name, name)}` {what}", hint="type `mlstack version pull`"
        )


def table(rows: Iterable[tuple[int, int, int, str, str]]) -> bytes:
    """Write a table: part, offset, size, MD5 and path of each file, in their order."""
    lines = [f"{p:03}\t{o}\t{s}\t{md5}\t{escaped(path)}\n" for p, o, s, md5, path in rows]
    return "".join(lines).encode(errors="surrogateescape")


def folder_of(dataset: Path) -> Path:
    """Give the folder with the packs of a dataset folder."""
    return dataset.with_name(dataset.name + SUFFIX)


def of_folder(folder: Path) -> Packs:
    """Open the packs that lie in a folder."""
    return Packs({entry.name: Path(entry.path) for entry in os.scandir(folder)})


def read(path: str | Path) -> bytes:
    """Read a file of a dataset, from its packs where it is not unpacked.

    Raises:
        FileNotFoundError: it is neither there nor in packs beside a folder above it.
        DataError: its pack is damaged.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        found = _find(Path(path))
        if found is None:
            raise
        packs, name = found
        return packs.read(name)


def is_packed(path: Path) -> bool:
    """Tell whether a file that is not there lies in packs beside a folder above it."""
    return _find(path) is not None


def _find(path: Path) -> tuple[Packs, str] | None:
    for above in path.parents:
        if not above.name:  # the root, or the working folder
            return None
        folder = folder_of(above)
        if not above.exists() and folder.is_dir():
            packs = _opened(folder, folder.stat().st_mtime_ns)
            name = path.relative_to(above).as_posix()
            return (packs, name) if name in packs.members else None
    return None


@lru_cache(maxsize=4)
def _opened(folder: Path, _changed_ns: int) -> Packs:
    return of_folder(folder)


def escaped(path: str) -> str:
    """Write a path in one line and without tabs."""
    for plain, written in ESCAPES:
        path = path.replace(plain, written)
    return path


def unescaped(path: str) -> str:
    """Read a path that was written so."""
    pieces = path.split("\\\\")
    for plain, written in ESCAPES[1:]:
        pieces = [piece.replace(written, plain) for piece in pieces]
    return "\\".join(pieces)
