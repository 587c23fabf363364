"""Three versions of a pointer -> one: merged by path, labels by row, conflicts named.

The result is what stock DVC would write for the merged folder. Where both sides changed the same
thing differently, ours is kept in it and the conflict is named, so that what lies in the working
tree is always a whole version.
"""

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mlstack import files
from mlstack.errors import DataError, StepError
from mlstack.records import data_folder, dataset, dvc
from mlstack.version import label_rows, trash
from mlstack.version.held import Held
from mlstack.version.listing import object_path, of
from mlstack.version.result import Conflict

OBJECT_MODE = 0o444  # as DVC protects what it has hashed
VALUE = r"(?m)^([ -]+{key}: )\S+$"


@dataclass(frozen=True)
class Sides:
    """The texts of a pointer: before both, ours, theirs; `before` is empty when both made it."""

    before: str
    ours: str
    theirs: str


@dataclass(frozen=True)
class Merged:
    """The text of the merged pointer and what could not be merged."""

    text: str
    conflicts: list[Conflict]
    ours: int  # files that differ from the common ancestor on our side only
    theirs: int


@dataclass(frozen=True)
class Picked:
    """Entries merged by name, and the names that both sides changed differently."""

    entries: dict[str, str]
    torn: list[str]


def merge(cache: Path, sides: Sides, side: str | None) -> Merged:
    """Merge a pointer; its list of files and its labels go into the cache.

    Args:
        cache: where the lists of files are.
        sides: the three texts.
        side: `ours` or `theirs` settles every conflict; None names them and keeps ours.

    Raises:
        DataError: a pointer is not one of a folder, or its files are not in the cache.
    """
    pointers = [_pointer(text) for text in (sides.before, sides.ours, sides.theirs)]
    before, ours, theirs = (_entries(cache, pointer) for pointer in pointers)
    held = Held(cache, tuple(pointer for pointer in pointers if pointer))
    picked = pick(before, ours, theirs)
    entries, conflicts = dict(picked.entries), []
    for name in picked.torn:
        three = [listing.get(name) for listing in (before, ours, theirs)]
        if name == dataset.LABELS:
            held.unpack(three)
        entry, found = _settle(cache, name, three, side)
        conflicts += found
        entries.pop(name, None)
        if entry is not None:
            entries[name] = entry
    conflicts += _part(entries, theirs if side == "theirs" else ours, side)
    assert pointers[1] is not None and pointers[2] is not None  # only the ancestor may lack
    listed = data_folder.listing_bytes(entries.items())
    name = data_folder.md5_of(listed)
    if pointers[1].stored:
        size = sum(held.size(md5) for md5 in entries.values())
        whole = dvc.Pointer(name, len(entries), size, held.merge(entries))
        text = dvc.plain_pointer(pointers[1].stored.name, whole)
    else:
        _store(cache, name, listed)
        size = _size(cache, entries, (ours, pointers[1]), (theirs, pointers[2]))
        text = _text(sides, dvc.Pointer(name, len(entries), size))
    return Merged(
        text=text,
        conflicts=conflicts,
        ours=sum(before.get(n) != ours.get(n) for n in before.keys() | ours.keys()),
        theirs=sum(before.get(n) != theirs.get(n) for n in before.keys() | theirs.keys()),
    )


def pick(before: Mapping[str, str], ours: Mapping[str, str], theirs: Mapping[str, str]) -> Picked:
    """Merge by name: whoever changed something wins; where both did, differently, it is torn."""
    entries: dict[str, str] = {}
    torn: list[str] = []
    for name in sorted(before.keys() | ours.keys() | theirs.keys()):
        old, mine, other = before.get(name), ours.get(name), theirs.get(name)
        value = other if mine == old else mine
        if old not in (mine, other) and mine != other:
            torn.append(name)
        if value is not None:
            entries[name] = value
    return Picked(entries, torn)


def merge_text(ours: Path, before: Path, theirs: Path) -> int:
    """Merge files line by line as git does, into `ours`; give the number of conflicts."""
    labels = ["-L", "ours", "-L", "before", "-L", "theirs"]
    command = ["git", "merge-file", *labels, str(ours), str(before), str(theirs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode > 127:
        raise StepError(f"git merge-file: {done.stderr.strip()}")
    return done.returncode


def _pointer(text: str) -> dvc.Pointer | None:
    if not text.strip():
        return None
    pointer = dvc.parse_pointer(text, where="a side of the merge")
    if not pointer.md5.endswith(trash.LIST) or not re.search(r"(?m)^ +hash: md5$", text):
        raise DataError(
            "the pointer does not name a folder as DVC 3 does", hint="edit it, then `git add` it"
        )
    return pointer


def _entries(cache: Path, pointer: dvc.Pointer | None) -> dict[str, str]:
    if pointer is None:
        return {}
    trash.bring_back(cache, {pointer.kept.md5})
    return of(cache, pointer)


def _settle(
    cache: Path, name: str, three: list[str | None], side: str | None
) -> tuple[str | None, list[Conflict]]:
    """Decide about a file that both sides changed."""
    _, mine, other = three
    why = ""
    if name == dataset.LABELS and mine and other:
        paths = [object_path(cache, one) if one else None for one in three]
        try:
            merged = label_rows.merge(paths[0], paths[1], paths[2], side)  # type: ignore[arg-type]
            return _store_labels(cache, merged.table), merged.conflicts
        except DataError as error:  # not rows that can be told apart: the file as a whole is torn
            why = error.problem
    if side is not None:
        return (mine if side == "ours" else other), []
    theirs = f"{_said(other)}; {why}" if why else _said(other)
    return mine, [Conflict(path=name, ours=_said(mine), theirs=theirs)]


def _said(one: str | None) -> str:
    return f"changed (md5 {one[:8]})" if one else "removed"


def _part(entries: dict[str, str], kept: Mapping[str, str], side: str | None) -> list[Conflict]:
    """Where a name is a file on one side and a folder on the other, keep that of one side."""
    torn = {
        above
        for name in entries
        for above in map(str, Path(name).parents)
        if above in entries and above != name
    }
    for above in torn:
        for name in [one for one in entries if above in map(str, Path(one).parents)]:
            if above in kept:
                del entries[name]
        if above not in kept:
            del entries[above]
    if side is not None:
        return []
    kinds = {True: "a file", False: "a folder"}
    return [
        Conflict(path=one, ours=kinds[one in kept], theirs=kinds[one not in kept])
        for one in sorted(torn)
    ]


def _size(cache: Path, entries: dict[str, str], *known: tuple[dict[str, str], dvc.Pointer]) -> int:
    """Add up the files: only those that one side lacks need to be in the cache.

    Raises:
        DataError: a file is on neither side's disk.
    """
    problem = ""
    for listing, pointer in known:
        try:
            gone = [md5 for name, md5 in listing.items() if entries.get(name) != md5]
            new = [md5 for name, md5 in entries.items() if listing.get(name) != md5]
            trash.bring_back(cache, {*gone, *new})
            sizes = [
                sum(object_path(cache, m).stat().st_size for m in part) for part in (new, gone)
            ]
            return pointer.size_bytes + sizes[0] - sizes[1]
        except FileNotFoundError as error:
            problem = str(error.filename)
    raise DataError(f"`{problem}` is not in the cache")


def _store_labels(cache: Path, table: pa.Table) -> str:
    with tempfile.TemporaryDirectory(dir=cache.parent) as place:
        path = Path(place) / dataset.LABELS
        dataset.write_labels(path, table)
        name = files.md5(path)
        if not object_path(cache, name).is_file():
            files.copy_whole(path, object_path(cache, name), OBJECT_MODE)
    return name


def _store(cache: Path, name: str, content: bytes) -> None:
    if object_path(cache, name).is_file():
        return
    with tempfile.TemporaryDirectory(dir=cache.parent) as place:
        path = Path(place) / name
        path.write_bytes(content)
        files.copy_whole(path, object_path(cache, name), OBJECT_MODE)


def _text(sides: Sides, pointer: dvc.Pointer) -> str:
    """Put the merged numbers into our text; what else was written there is merged by line.

    Raises:
        DataError: the rest of the text conflicts.
    """
    values = {"md5": pointer.md5, "size": pointer.size_bytes, "nfiles": pointer.files}

    def filled(text: str) -> str:
        for key, value in values.items():
            text = re.sub(VALUE.format(key=key), rf"\g<1>{value}", text)
        return text

    ours, theirs = filled(sides.ours), filled(sides.theirs)
    before = filled(sides.before)
    if ours == theirs or before == theirs:
        return ours
    with tempfile.TemporaryDirectory() as place:
        paths = [Path(place) / name for name in ("ours", "before", "theirs")]
        for path, text in zip(paths, (ours, before, theirs), strict=True):
            path.write_text(text)
        if merge_text(*paths):
            raise DataError("both sides changed its text, not only its files")
        return paths[0].read_text()
