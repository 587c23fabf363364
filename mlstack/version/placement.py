"""Files on their way from DVC's cache into the dataset folder, as `dvc checkout` would put them."""

import errno
import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import filterfalse
from pathlib import Path
from shutil import rmtree

from mlstack import files, shell
from mlstack.errors import DataError
from mlstack.records import folder_changes
from mlstack.records.base import Record
from mlstack.records.data_folder import FolderHash
from mlstack.records.dvc_config import DvcConfig
from mlstack.records.file_hash import LARGE_BYTES, stamp_of
from mlstack.records.folder_index import EMPTY, now_ns, write_index
from mlstack.records.layout import Layout
from mlstack.version import links, listing, objects
from mlstack.version.history import Dataset
from mlstack.version.objects import Objects
from mlstack.version.result import Counted
from mlstack.version.transfer import Fresh

STEP = 500  # files between two movements of the progress bar
WRITABLE = 0o666
Put = Callable[[str, str, str], bytes]  # path in the folder, MD5, new file to write -> its stamp


@dataclass(frozen=True)
class Order:
    """What a folder shall hold."""

    md5: str
    entries: dict[str, str]  # path -> MD5
    read: Callable[[str], Iterable[bytes]] | None = None  # a file that is no object of the cache
    fresh: Fresh = field(default_factory=dict)  # objects that need not be hashed once more

    def trusting(self, fresh: Fresh) -> "Order":
        """Give the same order, some objects of which this process has just hashed and written."""
        return replace(self, fresh=fresh)


@dataclass(frozen=True)
class Way:
    """How a version is put into the folder."""

    force: bool = False  # lose data that is in no snapshot
    packed: bool = False  # leave the files in their packs
    fresh: Fresh = field(default_factory=dict)  # objects that were hashed a moment ago


def place(
    data: Dataset, config: DvcConfig, order: Order, *, now: FolderHash | None
) -> Generator[Record, None, None]:
    """Make the folder hold exactly what is ordered; only what differs is touched.

    Args:
        data: the dataset.
        config: DVC's settings; its cache holds every object of the order.
        order: what shall be there.
        now: what is there; None for no folder.

    Raises:
        DataError: an object is damaged.
        MachineError: the disk is full.
    """
    cache = Objects(config.cache)
    taken_ns = now_ns(data.index)
    here = now.entries if now else {}
    gone = list(filterfalse(order.entries.__contains__, here))
    wanted = list(listing.unlike(order.entries, here))
    try:
        data.folder.parent.mkdir(parents=True, exist_ok=True)
        remove(data.folder, gone)
        put = _putter(order, cache, links.choose(config.links, data.folder, cache.home.parent))
        placed: dict[str, tuple[bytes, bytes]] = {}
        for number, (path, stamp) in enumerate(_lay(data, put, wanted)):
            placed[path] = (bytes.fromhex(order.entries[path]), stamp)
            if number % STEP == 0:
                yield Counted(text=data.source, done=number, total=len(wanted), unit="files")
        objects.sync(data.folder)
    except OSError as error:
        raise files.cannot_write(data.folder, error) from error
    before = now.index if now else EMPTY
    index = folder_changes.amend(before, order.md5, gone, placed)
    write_index(data.index, index, taken_ns=taken_ns)


def remove(folder: Path, gone: list[str]) -> None:
    """Take files away, and the folders that are empty then."""
    for path in gone:
        os.unlink(f"{folder}/{path}")  # noqa: PTH108  100,000 of them
    for place in sorted({parent for path in gone for parent in folders_above(path)}, reverse=True):
        with suppress(OSError):  # not empty
            (folder / place).rmdir()


def folders_above(path: str) -> Iterable[str]:
    """Yield the folders that a path lies in, the nearest first."""
    at = path.rpartition("/")[0]
    while at:
        yield at
        at = at.rpartition("/")[0]


def _putter(order: Order, cache: Objects, kind: str) -> Put:
    """Choose how a file of an order gets its bytes."""
    if (read := order.read) is not None:
        return lambda path, md5, beside: _pour(read(path), beside, md5)
    put = _link if kind == links.HARDLINK else _copy
    fresh = order.fresh

    def put_object(_: str, md5: str, beside: str) -> bytes:
        if (content := fresh.get(md5)) is not None:
            return _write(content, beside)
        return put(cache.path(md5), beside, "" if md5 in fresh else md5)

    return put_object


def _lay(data: Dataset, put: Put, wanted: list[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    """Put files into the folder; a folder that is not there yet is filled apart and named last."""
    apart = Layout(data.root).laying
    rmtree(apart, ignore_errors=True)  # of a process that was killed
    if data.folder.exists() or data.folder.is_symlink():
        yield from _put(data.folder, put, wanted)
        return
    apart.mkdir(parents=True)
    if apart.stat().st_dev != data.folder.parent.stat().st_dev:
        apart.rmdir()
        yield from _put(data.folder, put, wanted)
        return
    try:
        _make_folders(apart, wanted)
        for path, md5 in wanted:
            yield path, put(path, md5, f"{apart}/{path}")
        objects.sync(apart)
        apart.rename(data.folder)
    finally:
        rmtree(apart, ignore_errors=True)


def _make_folders(folder: Path, wanted: list[tuple[str, str]]) -> None:
    for place in sorted({path.rpartition("/")[0] for path, _ in wanted}):
        (folder / place).mkdir(parents=True, exist_ok=True)


def _put(folder: Path, put: Put, wanted: list[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
    """Put each file under its name at once; yield its path and stamp."""
    folder.mkdir(exist_ok=True)
    _make_folders(folder, wanted)
    token = os.urandom(4).hex()
    for path, md5 in wanted:
        target = f"{folder}/{path}"
        above, _, name = target.rpartition("/")
        beside = f"{above}/.{name[:100]}.{token}.tmp"
        try:
            put(path, md5, beside)
            os.rename(beside, target)  # noqa: PTH104  100,000 of them
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
        yield path, stamp_of(os.stat(target))  # noqa: PTH116  the name changed its stamp


def _pour(chunks: Iterable[bytes], beside: str, md5: str) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    target = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, WRITABLE)
    try:
        for chunk in chunks:
            digest.update(chunk)
            objects.write(target, memoryview(chunk))
        stamp = stamp_of(os.fstat(target))
    finally:
        os.close(target)
    if digest.hexdigest() != md5:
        raise DataError(
            f"what was packed under the MD5 {md5} is damaged",
            hint="type `mlstack version verify`, which names what is damaged",
        )
    return stamp


def _link(origin: str, beside: str, md5: str) -> bytes:
    try:
        os.link(origin, beside)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        return _copy(origin, beside, md5)
    return stamp_of(os.stat(beside))  # noqa: PTH116  100,000 of them


def _write(content: bytes, beside: str) -> bytes:
    target = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, WRITABLE)
    try:
        objects.write(target, memoryview(content))
        return stamp_of(os.fstat(target))
    finally:
        os.close(target)


def _copy(origin: str, beside: str, md5: str) -> bytes:
    """Copy an object; with an MD5, its content is hashed on the way."""
    source = os.open(origin, os.O_RDONLY)
    target = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, WRITABLE)
    try:
        size = os.fstat(source).st_size
        if size < LARGE_BYTES:
            content = os.read(source, size)
            objects.write(target, memoryview(content))
            digest = md5 and hashlib.md5(content, usedforsecurity=False).hexdigest()
        elif md5:
            digest = objects.copy(source, target, size).hex()
        else:
            digest = objects.copy_unseen(source, target, size)
        stamp = stamp_of(os.fstat(target))
    finally:
        os.close(source)
        os.close(target)
    if digest != md5:
        raise DataError(
            f"the object {md5} is damaged in the cache",
            hint=f"type `rm -f {shell.path(origin)}`, then `mlstack version pull`",
        )
    return stamp
