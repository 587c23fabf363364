"""What has changed between two states of a folder, as its index knows them; no file is read."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mlstack.records.folder_index import (
    MD5_BYTES,
    NOTHING,
    STAMP,
    STAMP_BYTES,
    FolderIndex,
    Listed,
    entries_of,
    known_of,
)


def differing(old: bytes | bytearray, new: bytes | bytearray, width: int) -> Iterator[int]:
    """Give the positions of the items, `width` bytes each, in which two rows of them differ.

    Halves are compared as wholes, so that few differences among many items cost little.
    """
    waiting = [(0, len(new) // width)]
    while waiting:
        start, end = waiting.pop()
        if old[start * width : end * width] == new[start * width : end * width]:
            continue
        if end - start == 1:
            yield start
            continue
        middle = (start + end) // 2
        waiting += ((middle, end), (start, middle))


@dataclass(frozen=True)
class Changes:
    """By how many files two states of a folder differ."""

    added: int
    removed: int
    changed: int


def compare(before: FolderIndex, after: FolderIndex) -> Changes:
    """Count what differs between two states of a folder; folders that are equal cost nothing."""
    added = removed = changed = 0
    for at in before.folders.keys() | after.folders.keys():
        old, new = before.folders.get(at, NOTHING), after.folders.get(at, NOTHING)
        if old.names == new.names and old.md5s == new.md5s:
            continue
        if old.names == new.names:
            changed += sum(1 for _ in differing(old.md5s, new.md5s, MD5_BYTES))
            continue
        then, now = dict(entries_of({"": old})), dict(entries_of({"": new}))
        both = then.keys() & now.keys()
        added += len(now) - len(both)
        removed += len(then) - len(both)
        changed += sum(then[name] != now[name] for name in both)
    return Changes(added, removed, changed)


def amend(
    before: FolderIndex, md5: str, gone: Iterable[str], placed: dict[str, tuple[bytes, bytes]]
) -> FolderIndex:
    """Give the index after files were taken away and others put there.

    Args:
        before: the index until now.
        md5: of the whole folder afterwards.
        gone: paths of files that are no more.
        placed: MD5 and stamp of each new file, by its path.
    """
    changes: dict[str, dict[str, tuple[bytes, bytes] | None]] = {}
    for path in gone:
        at, _, name = path.rpartition("/")
        changes.setdefault(at, {})[name] = None
    for path, (digest, stamp) in placed.items():
        at, _, name = path.rpartition("/")
        changes.setdefault(at, {})[name] = (stamp, digest)
    folders = before.folders | {at: _amended(before, at, of) for at, of in changes.items()}
    size = sum(sum(array("q", one.stamps)[2::STAMP]) for one in folders.values())
    return FolderIndex(md5=md5, size_bytes=size, folders=folders)


def _amended(
    before: FolderIndex, at: str, changes: dict[str, tuple[bytes, bytes] | None]
) -> Listed:
    """Put stamp and MD5 of changed files into the list of a folder; None takes one away."""
    old = before.folders.get(at)
    if old is None:
        return _listed({name: now for name, now in changes.items() if now is not None})
    stamps, md5s = bytearray(old.stamps), bytearray(old.md5s)
    for name, now in changes.items():
        position = bisect_left(old.names, name)
        if now is None or position == len(old.names) or old.names[position] != name:
            break
        stamps[position * STAMP_BYTES : (position + 1) * STAMP_BYTES] = now[0]
        md5s[position * MD5_BYTES : (position + 1) * MD5_BYTES] = now[1]
    else:
        return Listed(old.names, bytes(stamps), bytes(md5s))
    known = known_of(before, at) | changes
    return _listed({name: now for name, now in known.items() if now is not None})


def _listed(known: dict[str, tuple[bytes, bytes]]) -> Listed:
    names = sorted(known)
    stamps = b"".join(known[name][0] for name in names)
    return Listed(names, stamps, b"".join(known[name][1] for name in names))
