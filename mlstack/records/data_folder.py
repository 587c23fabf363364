"""The content of a dataset folder as DVC hashes it, reading only what has changed.

A folder's hash is the MD5 of the JSON list of `{"md5", "relpath"}` in path order, plus `.dir`
(dvc_data.hashfile.tree.Tree).
"""

import hashlib
import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from json.encoder import encode_basestring_ascii
from pathlib import Path

from mlstack import files
from mlstack.errors import DataError, MachineError
from mlstack.records import dvc
from mlstack.records.file_hash import hash_files
from mlstack.records.folder_changes import differing
from mlstack.records.folder_index import (
    MD5_BYTES,
    NOTHING,
    STAMP,
    STAMP_BYTES,
    FolderIndex,
    Listed,
    entries_of,
    known_of,
    now_ns,
    read_index,
    write_index,
)
from mlstack.records.ignore import NAME as IGNORE_FILE
from mlstack.records.ignore import read_ignores

OWN_FOLDERS = {".git", ".hg"}  # what DVC never looks into
BLANK = bytes(MD5_BYTES)
TYPE_BITS = 0o170000  # of a file's mode


@dataclass(frozen=True)
class FolderHash:
    """The content of a folder: its DVC hash, and what its files are."""

    md5: str
    size_bytes: int
    count: int
    index: FolderIndex
    linked: bool  # some are links to files

    made: bytes | None = None  # the list of files, where it had to be written to be hashed

    @property
    def listing(self) -> bytes:
        """The list of files, byte for byte as DVC keeps it."""
        return self.made if self.made is not None else listing_bytes(entries_of(self.index.folders))

    @cached_property
    def entries(self) -> dict[str, str]:
        """The MD5 of each file by its path in the folder."""
        return dict(entries_of(self.index.folders))

    @cached_property
    def sizes(self) -> dict[str, int]:
        """The size of each file in bytes by its path in the folder."""
        return {
            _join(folder, name): size
            for folder, listed in self.index.folders.items()
            for name, size in zip(
                listed.names, array("q", listed.stamps)[2::STAMP].tolist(), strict=True
            )
        }


@dataclass
class Listing:
    """The files of one folder while they are being looked at."""

    names: list[str]
    stamps: bytearray
    md5s: bytearray


@dataclass
class Look:
    """A look at a folder: what is there, and which files have to be read."""

    folder: Path
    listings: dict[str, Listing]
    linked: bool
    taken_ns: int
    before: FolderIndex
    unknown: list[tuple[str, int]] = field(default_factory=list)  # folder and position

    def found(self) -> list[tuple[str, bytes]]:
        """Give the path and the stamp of each file that has to be read."""
        of = {
            at: (f"{self.folder}/{_join(at, '')}", listing.names, bytes(listing.stamps))
            for at, listing in self.listings.items()
        }
        return [
            (above + names[position], stamps[position * STAMP_BYTES : (position + 1) * STAMP_BYTES])
            for at, position in self.unknown
            for above, names, stamps in (of[at],)
        ]

    def known(self) -> set[str]:
        """Give the MD5 of every file that need not be read."""
        found: set[str] = set()
        for listing in self.listings.values():
            digits = listing.md5s.hex()
            found.update(digits[start : start + 32] for start in range(0, len(digits), 32))
        return found - {BLANK.hex()}

    def paths(self) -> Iterator[str]:
        """Yield the path of every file in the folder."""
        for at, listing in self.listings.items():
            yield from (_join(at, name) for name in listing.names)

    def read_unless(self, kept: Mapping[str, str]) -> None:
        """Have known files read all the same, unless `kept` has them as they are."""
        unknown = set(self.unknown)
        for at, listing in self.listings.items():
            digits = listing.md5s.hex()
            for position, name in enumerate(listing.names):
                md5 = digits[position * 32 : position * 32 + 32]
                if (at, position) not in unknown and kept.get(_join(at, name)) != md5:
                    self.unknown.append((at, position))

    def read_again(self, md5s: set[str]) -> None:
        """Have known files of some contents read all the same."""
        for at, listing in self.listings.items():
            for position in range(len(listing.names)):
                digest = listing.md5s[position * MD5_BYTES : (position + 1) * MD5_BYTES]
                if digest.hex() in md5s:
                    self.unknown.append((at, position))

    def fresh(self) -> list[str]:
        """Give the paths of the files that have to be read and whose names begin with a dot."""
        named = ((at, self.listings[at].names[position]) for at, position in self.unknown)
        return [f"{self.folder}/{_join(at, name)}" for at, name in named if name[0] == "."]

    def former(self) -> list[str]:
        """Give the MD5 that each file to be read had at the last look; empty for a new one."""
        if not self.before.folders:
            return [""] * len(self.unknown)
        kept = {at: self._kept(at) for at in {at for at, _ in self.unknown}}
        return [kept[at](position).hex() for at, position in self.unknown]

    def _kept(self, at: str) -> Callable[[int], bytes]:
        """Give what tells the MD5 that the file at a position in a folder had at the last look."""
        names, before = self.listings[at].names, self.before.folders.get(at, NOTHING)
        if names == before.names:
            return lambda p: before.md5s[p * MD5_BYTES : (p + 1) * MD5_BYTES]
        by_name = known_of(self.before, at)
        return lambda p: by_name.get(names[p], (b"", b""))[1]

    def learn(self, number: int, digest: bytes, stamp: bytes) -> None:
        """Note the MD5 of the `number`-th unknown file and what it looked like when it was read."""
        at, position = self.unknown[number]
        listing = self.listings[at]
        listing.md5s[position * MD5_BYTES : (position + 1) * MD5_BYTES] = digest
        listing.stamps[position * STAMP_BYTES : (position + 1) * STAMP_BYTES] = stamp

    def hashed(self) -> FolderHash:
        """Give the hash, now that every file is known."""
        folders = {
            at: Listed(one.names, bytes(one.stamps), bytes(one.md5s))
            for at, one in self.listings.items()
        }
        size = sum(sum(array("q", one.stamps)[2::STAMP]) for one in folders.values())
        listing = (
            None if _list_same(self.before.folders, folders) else listing_bytes(entries_of(folders))
        )
        md5 = self.before.md5 if listing is None else md5_of(listing)
        count = sum(len(one.names) for one in folders.values())
        index = FolderIndex(md5=md5, size_bytes=size, folders=folders)
        return FolderHash(md5, size, count, index, self.linked, listing)


def hash_folder(folder: Path, index: Path | None = None) -> FolderHash:
    """Hash a folder as DVC does: dot-files too, links to files by their content.

    Args:
        folder: the folder.
        index: file that remembers what was read; without one everything is read.

    Raises:
        DataError: there is no such folder, it holds something that DVC leaves out or refuses, or
            a file is being written meanwhile.
    """
    seen = look(folder, index)
    for number, (digest, stamp) in enumerate(hash_files(seen.found())):
        seen.learn(number, digest, stamp)
    hashed = seen.hashed()
    if index is not None:
        remember(index, seen, hashed)
    return hashed


def look(folder: Path, index: Path | None) -> Look:
    """Compare a folder with what the index remembers, reading no file.

    Raises:
        DataError: there is no such folder, or it holds something that DVC leaves out or refuses.
    """
    taken_ns = now_ns(index) if index and files.may_write(index) else 0
    before = read_index(index) if index else FolderIndex(md5="", size_bytes=0, folders={})
    listings, linked = scan(folder)
    seen = Look(folder, listings, linked, taken_ns, before)
    for at, listing in listings.items():
        known = before.folders.get(at)
        if known and known.names == listing.names:
            listing.md5s[:] = known.md5s
            for position in differing(known.stamps, listing.stamps, STAMP_BYTES):
                listing.md5s[position * MD5_BYTES : (position + 1) * MD5_BYTES] = BLANK
                seen.unknown.append((at, position))
            continue
        by_name = known_of(before, at)
        if not by_name:
            seen.unknown += [(at, position) for position in range(len(listing.names))]
            continue
        for position, name in enumerate(listing.names):
            stamp, md5 = by_name.get(name, (b"", BLANK))
            if stamp == _stamp(listing, position):
                listing.md5s[position * MD5_BYTES : (position + 1) * MD5_BYTES] = md5
            else:
                seen.unknown.append((at, position))
    return seen


def remember(index: Path, seen: Look, hashed: FolderHash) -> None:
    """Write the index when the look taught anything new, and there is leave and room to."""
    if not seen.taken_ns:  # it only saves time; who may only read reads more
        return
    if seen.unknown or hashed.index.folders != seen.before.folders:
        with suppress(MachineError):  # so does a full disk: who only looks needs no room
            write_index(index, hashed.index, taken_ns=seen.taken_ns)


def list_files(folder: Path) -> list[str]:
    """List every file that DVC sees below a folder, by its path in the folder.

    Raises:
        DataError: there is no such folder, or it holds something that DVC leaves out or refuses:
            a link to a folder or to nothing, a socket, a `.dvcignore`, a folder `.dvc`.
    """
    return [_join(at, name) for at, listing in scan(folder)[0].items() for name in listing.names]


def scan(folder: Path) -> tuple[dict[str, Listing], bool]:
    """List the files below a folder with their stamps; say whether some are links.

    Raises:
        DataError: as for `list_files`.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder `{folder}`", hint=dvc.bring_back(folder))
    ignores = read_ignores(folder)
    found: dict[str, Listing] = {}
    linked = False
    waiting = [""]
    while waiting:
        at = waiting.pop()
        listing, below, links = _scan_one(folder, at)
        if ignores:
            below = [name for name in below if not ignores.hide(_join(at, name), is_folder=True)]
            listing = _without(
                listing, [ignores.hide(_join(at, name), is_folder=False) for name in listing.names]
            )
        found[at] = listing
        waiting.extend(_join(at, name) for name in reversed(below))
        linked = linked or links
    return found, linked


def listing_bytes(entries: Iterable[tuple[str, str]]) -> bytes:
    """Write the list of files byte for byte as DVC does, `json.dumps(..., sort_keys=True)`.

    Args:
        entries: path in the folder and MD5, in any order.
    """
    lines = ", ".join(
        [
            f'{{"md5": "{md5}", "relpath": {encode_basestring_ascii(path)}}}'
            for path, md5 in sorted(entries)
        ]
    )
    return f"[{lines}]".encode()


def md5_of(listing: bytes) -> str:
    """Give the hash of a folder from the list of its files."""
    return hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"


def _scan_one(folder: Path, at: str) -> tuple[Listing, list[str], bool]:
    place = str(folder / at) if at else str(folder)
    names: list[str] = []
    numbers: list[int] = []
    below: list[str] = []
    links = False
    descriptor = os.open(place, os.O_RDONLY)  # names below it are found without walking the path
    try:
        for name in sorted(os.listdir(descriptor)):  # noqa: PTH208  names alone
            if name == ".git":  # a folder or a file, as in a submodule
                continue
            status = os.lstat(name, dir_fd=descriptor)
            if status.st_mode & TYPE_BITS != stat.S_IFREG:
                if stat.S_ISDIR(status.st_mode):
                    if name == ".dvc":
                        lies = "is a DVC repository in a dataset, of which DVC keeps nothing"
                        raise _odd(Path(place, name), lies)
                    if name not in OWN_FOLDERS:
                        below.append(name)
                    continue
                status, links = _followed(Path(place, name)), True
            names.append(name)
            numbers += (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
    finally:
        os.close(descriptor)
    if IGNORE_FILE in names:
        raise _odd(Path(place, IGNORE_FILE), "lies inside a dataset, which DVC refuses")
    stamps = bytearray(array("q", numbers).tobytes())
    return Listing(names, stamps, bytearray(len(names) * MD5_BYTES)), below, links


def _list_same(before: Mapping[str, Listed], after: Mapping[str, Listed]) -> bool:
    """Tell whether two states of a folder have the same files with the same content."""
    return before.keys() == after.keys() and all(
        before[at].md5s == now.md5s and before[at].names == now.names for at, now in after.items()
    )


def _without(listing: Listing, hidden: list[bool]) -> Listing:
    """Leave the hidden files of a folder out."""
    if not any(hidden):
        return listing
    kept = [position for position, is_hidden in enumerate(hidden) if not is_hidden]
    return Listing(
        [listing.names[position] for position in kept],
        bytearray(b"".join(_stamp(listing, position) for position in kept)),
        bytearray(len(kept) * MD5_BYTES),
    )


def _followed(path: Path) -> os.stat_result:
    try:
        status = path.stat()
    except OSError as error:
        raise _odd(path, "is a link to nothing") from error
    if stat.S_ISDIR(status.st_mode):
        raise _odd(path, "is a link to a folder; DVC does not look into it")
    if not stat.S_ISREG(status.st_mode):
        raise _odd(path, "is neither a file nor a folder")
    return status


def _odd(path: Path, problem: str) -> DataError:
    return DataError(f"`{path}` {problem}", hint="replace it by files, or remove it")


def _stamp(listing: Listing, position: int) -> bytes:
    return bytes(listing.stamps[position * STAMP_BYTES : (position + 1) * STAMP_BYTES])


def _join(at: str, name: str) -> str:
    return f"{at}/{name}" if at else name
