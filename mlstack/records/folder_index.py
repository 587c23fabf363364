"""What is known of the files below a folder, so that only changed ones are read again.

A cache: without it the next command is slow, never wrong.
"""

from array import array
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import msgspec

from mlstack import files
from mlstack.records.base import Record

STAMP = 4  # integers a file, as `file_hash` packs them; the first is the time of the last write
STAMP_BYTES = STAMP * 8
MD5_BYTES = 16
# A file that was written this shortly before it was looked at may have been written again since
# without another time stamp (git's "racily clean"; two seconds is what coarse file systems count).
RACY_NS = 2_000_000_000


class Listed(msgspec.Struct, frozen=True, array_like=True):
    """The files of one folder, in name order."""

    names: list[str]
    stamps: bytes  # int64 (files, 4) in the machine's byte order
    md5s: bytes  # (files, 16)


NOTHING = Listed([], b"", b"")


class FolderIndex(Record, frozen=True, kw_only=True, tag="folder.index"):
    """The files below a folder as they were when their content was last read."""

    md5: str  # of the whole, as DVC hashes a folder: 32 digits and `.dir`
    size_bytes: int
    folders: dict[str, Listed]  # by path in the folder; "" is the folder itself


EMPTY = FolderIndex(md5="", size_bytes=-1, folders={})


def read_index(path: Path) -> FolderIndex:
    """Read an index; one that is missing, damaged or of another version is empty."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=FolderIndex)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return EMPTY


def write_index(path: Path, index: FolderIndex, *, taken_ns: int) -> None:
    """Write an index; what may have changed unseen since `taken_ns` is marked as unknown.

    Args:
        path: the file.
        index: what was seen.
        taken_ns: when the look at the folder began, by the clock that stamps its files.
    """
    folders = {name: _settled(listed, taken_ns - RACY_NS) for name, listed in index.folders.items()}
    try:
        content = msgspec.msgpack.encode(msgspec.structs.replace(index, folders=folders))
    except UnicodeEncodeError:  # a name that is no text: such a folder is read whole each time
        path.unlink(missing_ok=True)
        return
    files.write_bytes(path, content)


def now_ns(path: Path) -> int:
    """Give the time by the clock of the file system that holds `path`'s folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    probe = path.with_suffix(".clock")
    probe.touch()
    return probe.stat().st_mtime_ns


def entries_of(folders: dict[str, Listed]) -> Iterator[tuple[str, str]]:
    """Yield path and MD5 of every file."""
    return chain.from_iterable(map(_entries_of_one, folders.items()))


def _entries_of_one(item: tuple[str, Listed]) -> Iterator[tuple[str, str]]:
    at, listed = item
    digits = listed.md5s.hex()
    md5s = [digits[start : start + 32] for start in range(0, len(digits), 32)]
    return zip([f"{at}/{name}" for name in listed.names] if at else listed.names, md5s, strict=True)


def known_of(index: FolderIndex, at: str) -> dict[str, tuple[bytes, bytes]]:
    """Give stamp and MD5 of each file of one folder."""
    listed = index.folders.get(at)
    if listed is None:
        return {}
    return {
        name: (
            listed.stamps[position * STAMP_BYTES : (position + 1) * STAMP_BYTES],
            listed.md5s[position * MD5_BYTES : (position + 1) * MD5_BYTES],
        )
        for position, name in enumerate(listed.names)
    }


def _settled(listed: Listed, before_ns: int) -> Listed:
    stamps = array("q", listed.stamps)
    modified = stamps[::STAMP]
    if not modified or max(modified) < before_ns:
        return listed
    for position, at in enumerate(modified):
        if at >= before_ns:
            stamps[position * STAMP] = -1  # no file has this time
    return Listed(listed.names, stamps.tobytes(), listed.md5s)
