"""Files on their way from the dataset folder into DVC's cache, as `dvc add` puts them there."""

import errno
import os
from collections.abc import Generator, Iterator
from pathlib import Path

from mlstack import files
from mlstack.records.base import Record
from mlstack.records.data_folder import FolderHash, Look
from mlstack.records.dvc_config import DvcConfig
from mlstack.records.file_hash import (
    LARGE_BYTES,
    being_written,
    hash_file,
    hash_open,
    open_to_read,
    sizes_of,
    stamp_of,
    threads,
)
from mlstack.version import kept, links
from mlstack.version.copying import Entered, Found, copy_all
from mlstack.version.objects import MODE, Filling, Objects
from mlstack.version.result import Counted

STEP = 500  # files between two movements of the progress bar


def keep(seen: Look, config: DvcConfig, noted: Path) -> Generator[Record, None, FolderHash]:
    """Put every new file of a folder, and the list of all, into the cache.

    Args:
        seen: a fresh look at the folder.
        config: DVC's settings.
        noted: where it is noted which version the cache holds.

    Raises:
        DataError: a file is being written meanwhile.
        MachineError: the disk is full.
    """
    store = Objects(config.cache)
    try:
        with store.filling() as filling:
            # What was looked at before may never have been kept, or been removed since.
            is_whole = kept.holds(noted, seen.before.md5, store)
            if not is_whole and (lost := filling.missing(seen.known())):
                seen.read_again(lost)
            yield from _keep_files(seen, config, filling)
            hashed = seen.hashed()
            if filling.lacks(hashed.md5):  # last: the list names only what is there
                filling.add(hashed.md5, hashed.listing)
    except OSError as error:
        raise files.cannot_write(config.cache, error) from error
    if not is_whole or seen.unknown:
        kept.note(noted, hashed.md5, store)
    return hashed


def _keep_files(seen: Look, config: DvcConfig, filling: Filling) -> Iterator[Record]:
    found = seen.found()
    sizes = sizes_of(found)
    total = sum(sizes)
    done = 0
    former = seen.former()
    kind = links.choose(config.links, seen.folder, Path(filling.beside))
    enter = _link if kind == links.HARDLINK else copy_all
    for number, (digest, stamp) in enumerate(enter(filling, found, sizes)):
        if former[number] and former[number] != digest.hex():
            _drop_overwritten(filling, former[number], stamp)
        seen.learn(number, digest, stamp)
        done += sizes[number]
        if number % STEP == 0:
            yield Counted(text="into the cache", done=done, total=total, unit="bytes")
    filling.flush()


def _drop_overwritten(filling: Filling, md5: str, stamp: bytes) -> None:
    """Take an object away that somebody changed by writing into the file that is linked to it.

    Only once the file is known to have another content: a link that a killed snapshot made changes
    a file's stamp too, and its object is as good as ever.
    """
    path = Path(filling.store.path(md5))
    if path.is_file() and stamp_of(path.stat())[24:] == stamp[24:]:  # the inode
        filling.drop(md5)


def _link(filling: Filling, found: list[Found], sizes: list[int]) -> Iterator[Entered]:
    """Give each file a second name in the cache; both are read-only then."""
    large = [one for one, size in zip(found, sizes, strict=True) if size >= LARGE_BYTES]
    with threads() as pool:
        hashed = pool.map(lambda one: hash_file(*one), large)
        for (path, stamp), size in zip(found, sizes, strict=True):
            descriptor = open_to_read(path)
            try:
                known = next(hashed) if size >= LARGE_BYTES else hash_open(path, descriptor, stamp)
                entered = _link_open(filling, path, descriptor, known)
            finally:
                os.close(descriptor)
            if entered:
                yield entered
            else:
                yield from copy_all(filling, [(path, stamp)], [size])


def _link_open(filling: Filling, path: str, descriptor: int, known: Entered) -> Entered | None:
    """Link a file that was hashed while it is open; None when the file system cannot."""
    digest, before = known
    md5 = digest.hex()
    if not filling.lacks(md5):
        return known
    try:
        filling.link(md5, path)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        return None
    os.fchmod(descriptor, MODE)
    after = stamp_of(os.fstat(descriptor))
    if after[:8] + after[16:] != before[:8] + before[16:]:  # all but ctime: ours
        filling.drop(md5)
        raise being_written(path)
    return digest, after
