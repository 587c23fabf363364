"""Whether the cache holds what the names of its objects say, and mending what it does not."""

import hashlib
import os
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlstack import files, shell
from mlstack.config import Project
from mlstack.errors import BusyError, DataError, Mistake, StepError
from mlstack.plurals import counted, plural
from mlstack.records import data_folder, dvc
from mlstack.records.base import Record
from mlstack.version import history, stock, trash
from mlstack.version.api import hold
from mlstack.version.destination import remote_of
from mlstack.version.history import Dataset, dataset_of
from mlstack.version.listing import files_of, object_path
from mlstack.version.result import Counted, Verified, Working

BATCH_BYTES = 4 << 20  # of small files that are one piece of work
BATCH_FILES = 200
PIECE_BYTES = 1 << 16
MEGA = 1_000_000
OBJECT_MODE = 0o444  # as DVC protects what it has hashed


@dataclass(frozen=True)
class Wanted:
    """An object that a version needs."""

    md5: str
    what: str  # for people: a path, or a list of files
    commit: str | None  # that names it; None is the working tree


def verify(project: Project, *, fix: bool) -> Iterator[Record]:
    """Hash every cached object of every version again, on all cores.

    Args:
        project: the project.
        fix: replace what is damaged or missing from the folder, the trash or the remote.

    Raises:
        DataError: an object is damaged, or the current version is not whole; each is named.
    """
    data = dataset_of(project)
    cache = stock.cache_folder(data.root)
    current = dvc.read_pointer(data.pointer)
    relisted = fix and _relist(data, cache, current)
    versions, wanted = _wanted(data, cache, current)
    sizes = _sizes(cache, wanted)
    damaged = yield from _hash(cache, sizes)
    lacking = [md5 for md5 in _needed(cache, current) if md5 not in sizes]
    mended = int(relisted)
    if fix and (damaged or lacking):
        faulty = [wanted[md5] for md5 in dict.fromkeys([*damaged, *lacking])]
        yield from _mend(project, data, cache, faulty)
        damaged = [one.md5 for one in faulty if _is_damaged(object_path(cache, one.md5))]
        lacking = [one.md5 for one in faulty if not object_path(cache, one.md5).is_file()]
        mended += len(faulty) - len(damaged) - len(lacking)
        sizes = _sizes(cache, wanted)
    _refuse(cache, [wanted[md5] for md5 in damaged], [wanted[md5] for md5 in lacking], fix=fix)
    yield Verified(
        versions=versions,
        objects=len(sizes),
        size_bytes=sum(sizes.values()),
        absent=len(wanted) - len(sizes),
        mended=mended,
    )


def _wanted(
    data: Dataset, cache: Path, current: dvc.Pointer | None
) -> tuple[int, dict[str, Wanted]]:
    """Give the number of versions and what they need."""
    found: dict[str, str | None] = {}
    for version in history.versions(data, everywhere=True):
        found.setdefault(version.pointer.kept.md5, version.revision)
    if current:
        found.setdefault(current.kept.md5, None)
    wanted: dict[str, Wanted] = {}
    for md5, commit in found.items():
        where = commit[:7] if commit else "the working tree"
        wanted[md5] = Wanted(md5, f"list of files of version {where}", commit)
        for path, one in files_of(cache, md5).items():
            wanted.setdefault(one, Wanted(one, path, commit))
    return len(found), wanted


def _sizes(cache: Path, wanted: Iterable[str]) -> dict[str, int]:
    """Give the size of each object that is here."""
    found = {}
    for md5 in wanted:
        with suppress(FileNotFoundError):
            status = os.stat(f"{cache}/{md5[:2]}/{md5[2:]}")  # noqa: PTH116  100,000 of them
            found[md5] = status.st_size
    return found


def _hash(cache: Path, sizes: dict[str, int]) -> Generator[Record, None, list[str]]:
    """Hash objects, the largest first; the generator's value is the MD5 of each damaged one."""
    total, done, begun = sum(sizes.values()), 0, time.monotonic()
    damaged: set[str] = set()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        pieces = {pool.submit(_damaged, cache, part): part for part in _pieces(sizes)}
        for finished in as_completed(pieces):
            damaged.update(finished.result())
            done += sum(sizes[md5] for md5 in pieces[finished])
            rate = done / max(time.monotonic() - begun, 1e-3)
            yield Counted(
                text=f"hashing, {rate / MEGA:.0f} MB/s", done=done // MEGA, total=total // MEGA
            )
    return [md5 for md5 in sizes if md5 in damaged]


def _pieces(sizes: dict[str, int]) -> Iterator[list[str]]:
    """Divide objects into pieces of work: a large one each, small ones together."""
    piece: list[str] = []
    weight = 0
    for md5 in sorted(sizes, key=lambda md5: -sizes[md5]):
        piece.append(md5)
        weight += sizes[md5]
        if weight >= BATCH_BYTES or len(piece) >= BATCH_FILES:
            yield piece
            piece, weight = [], 0
    if piece:
        yield piece


def _damaged(cache: Path, md5s: list[str]) -> list[str]:
    wanted = ((md5, f"{cache}/{md5[:2]}/{md5[2:]}") for md5 in md5s)
    return [md5 for md5, path in wanted if _digest(path) != md5.removesuffix(trash.LIST)]


def _is_damaged(path: Path) -> bool:
    wanted = (path.parent.name + path.name).removesuffix(trash.LIST)
    return path.is_file() and _digest(str(path)) != wanted


def _digest(path: str) -> str:
    """Hash an object; most are smaller than what one call to the kernel reads."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        content = os.read(descriptor, PIECE_BYTES)
        if len(content) < PIECE_BYTES:
            return hashlib.md5(content, usedforsecurity=False).hexdigest()
        os.lseek(descriptor, 0, os.SEEK_SET)
        return files.md5_of_descriptor(descriptor, os.fstat(descriptor).st_size).hex()
    finally:
        os.close(descriptor)


def _needed(cache: Path, current: dvc.Pointer | None) -> list[str]:
    """List what the current version needs."""
    if current is None:
        return []
    md5 = current.kept.md5
    return [md5, *dict.fromkeys(files_of(cache, md5).values())]


def _relist(data: Dataset, cache: Path, current: dvc.Pointer | None) -> bool:
    """Write the list of files anew where the folder still is the current version.

    A cache that was removed as a whole lacks the list first, and only the list names the rest.
    """
    if current is None or current.stored is not None or not data.folder.is_dir():
        return False
    place = object_path(cache, current.kept.md5)
    if place.is_file() and not _is_damaged(place):
        return False
    with hold(data.root), stock.bridge().locked(data.root):
        hashed = data_folder.hash_folder(data.folder, data.index)
        if hashed.md5 != current.md5:
            return False
        files.write_chunks(place, [hashed.listing], mode=OBJECT_MODE)
    return True


def _mend(project: Project, data: Dataset, cache: Path, faulty: list[Wanted]) -> Iterator[Record]:
    """Put damaged objects aside, and take them from wherever they are whole."""
    with hold(project.root), stock.bridge().locked(project.root):
        aside = trash.folder(cache) / "damaged"
        for one in faulty:
            path = object_path(cache, one.md5)
            if path.is_file():
                files.move(path, aside / path.parent.name / path.name)
        trash.bring_back(cache, {one.md5 for one in faulty})
        yield Working(text=f"looking for {counted(len(faulty), 'object')} in {data.source}")
        for one in faulty:
            _take(data.folder / one.what, object_path(cache, one.md5))
    remote = remote_of(project)
    left = [one for one in faulty if not object_path(cache, one.md5).is_file()]
    if not left or not (remote or stock.bridge().has_remote(data.root)):
        return
    for commit in dict.fromkeys(one.commit for one in left):
        yield Working(text=f"fetching what is missing of {(commit or 'the working tree')[:16]}")
        with (
            hold(project.root),
            suppress(BusyError, StepError),
        ):  # what does not come is named afterwards
            stock.bridge().fetch(data.root, data.pointer, remote, commit)


def _take(source: Path, target: Path) -> None:
    """Copy a file of the folder into the cache when it is the one that is missing."""
    if target.is_file() or not source.is_file():
        return
    if files.md5(source) == target.parent.name + target.name:
        files.copy_whole(source, target, OBJECT_MODE)


def _refuse(cache: Path, damaged: list[Wanted], lacking: list[Wanted], *, fix: bool) -> None:
    mistakes = [
        Mistake(
            f"`{one.what}` is damaged in the cache",
            f"type `rm -f {shell.path(object_path(cache, one.md5))}`",
            str(object_path(cache, one.md5)),
        )
        for one in damaged
    ] + [Mistake(f"`{one.what}` is not in the cache", where=one.md5) for one in lacking]
    if mistakes:
        tried = "neither the folder nor the remote has them whole"
        raise DataError(
            f"{counted(len(mistakes), 'object')} {plural(len(mistakes), 'is', 'are')} damaged or "
            "missing" + (f"; {tried}" if fix else ""),
            hint="type `mlstack version pull` where they are whole, and `push`"
            if fix
            else "type `mlstack version verify --fix`",
            mistakes=tuple(mistakes),
        )
