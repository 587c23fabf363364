"""Files and objects copied into a store of objects, each read once."""

import hashlib
import os
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from mlstack import files, shell
from mlstack.errors import DataError
from mlstack.records.file_hash import (
    LARGE_BYTES,
    TRIES,
    being_written,
    open_to_read,
    size_of,
    stamp_of,
    threads,
)
from mlstack.version import objects
from mlstack.version.objects import Filling, Objects

Found = tuple[str, bytes]  # path and stamp of a file
PIECE_BYTES = 1 << 16  # what one call to the kernel reads of an object; most are smaller
Copied = tuple[str, int, bytes | None]  # MD5, size in bytes, and the content of a small one
Entered = tuple[bytes, bytes]  # MD5 and stamp of a file that the store has, or will have


def copy_all(filling: Filling, found: list[Found], sizes: list[int]) -> Iterator[Entered]:
    """Copy each file, several large ones at a time; yield what it turned out to be.

    Args:
        filling: where to.
        found: path and stamp of each file.
        sizes: that of each in bytes.

    Raises:
        DataError: a file is being written meanwhile, or is gone.
        OSError: the store cannot be written.
    """
    large = [path for (path, _), size in zip(found, sizes, strict=True) if size >= LARGE_BYTES]
    if not large:
        for (path, stamp), size in zip(found, sizes, strict=True):
            yield _copy_small(filling, path, stamp, size)
        return
    reserved = [filling.reserve() for _ in large]
    with threads() as pool:
        copied = pool.map(_copy_large, reserved, large)
        beside = iter(reserved)
        for (path, stamp), size in zip(found, sizes, strict=True):
            if size < LARGE_BYTES:
                yield _copy_small(filling, path, stamp, size)
                continue
            digest, after = next(copied)
            filling.register(next(beside), digest.hex(), size_of(after))
            yield digest, after


def copy_objects(filling: Filling, origin: Objects, md5s: list[str]) -> Iterator[Copied]:
    """Copy objects from another store, several large ones at a time, these last.

    Raises:
        DataError: one is damaged.
        FileNotFoundError: one is not there.
        OSError: a store cannot be read or written.
    """
    large = []
    for folder, group in groupby(md5s, itemgetter(slice(2))):
        with origin.opened(folder) as within:
            for md5 in group:
                content = _content(origin, md5, within)
                if content is None:
                    large.append(md5)
                    continue
                if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
                    raise damaged(origin, md5)
                filling.add(md5, content)
                yield md5, len(content), content
    if not large:
        return
    reserved = [filling.reserve() for _ in large]
    with threads() as pool:
        copied = pool.map(_copy_large, reserved, map(origin.path, large))
        for md5, beside, (digest, stamp) in zip(large, reserved, copied, strict=True):
            if digest.hex() != md5:
                raise damaged(origin, md5)
            filling.register(beside, md5, size_of(stamp))
            yield md5, size_of(stamp), None


def _content(origin: Objects, md5: str, within: int) -> bytes | None:
    """Read an object; None for a large one."""
    try:
        descriptor = os.open(md5[2:], os.O_RDONLY, dir_fd=within)
        try:
            content = os.read(descriptor, PIECE_BYTES)
            if len(content) < PIECE_BYTES:
                return content
            size = os.fstat(descriptor).st_size
            return None if size >= LARGE_BYTES else content + os.read(descriptor, size)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, origin.path(md5)) from error


def damaged(store: Objects, md5: str) -> DataError:
    """Give the error of an object whose content is not what its name says."""
    return DataError(
        f"the object {md5} is damaged in `{store.home}`",
        hint=f"type `rm -f {shell.path(store.path(md5))}`, then push or pull it again",
    )


def _copy_small(filling: Filling, path: str, stamp: bytes, size: int) -> Entered:
    descriptor = open_to_read(path)
    try:
        for _ in range(TRIES):
            content = os.read(descriptor, size + 1)
            after = stamp_of(os.fstat(descriptor))
            if len(content) == size and after == stamp:
                digest = hashlib.md5(content, usedforsecurity=False)
                if filling.lacks(md5 := digest.hexdigest()):
                    filling.add(md5, content)
                return digest.digest(), after
            os.lseek(descriptor, 0, os.SEEK_SET)
            stamp, size = after, size_of(after)
    except OSError as error:
        raise _naming(error, path) from error
    finally:
        os.close(descriptor)
    raise being_written(path)


def _naming(error: OSError, path: str) -> OSError:
    """Name the file that could not be read; what cannot be written names itself."""
    if error.errno in files.FULL or error.filename:
        return error
    return OSError(error.errno, error.strerror, path)


def _copy_large(beside: str, path: str) -> Entered:
    source = open_to_read(path)
    try:
        before = stamp_of(os.fstat(source))
        for _ in range(TRIES):
            target = objects.create(beside)
            try:
                os.lseek(source, 0, os.SEEK_SET)
                digest = objects.copy(source, target, size_of(before))
            except OSError as error:
                raise _naming(error, path) from error
            finally:
                os.close(target)
            after = stamp_of(os.fstat(source))
            if after == before:
                return digest, after
            Path(beside).unlink()
            before = after
    finally:
        os.close(source)
    raise being_written(path)
