"""Files copied into a store of objects, each read once."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from mlstack import files
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
from mlstack.version.objects import Filling

Found = tuple[str, bytes]  # path and stamp of a file
Entered = tuple[bytes, bytes]  # MD5 and stamp of a file that the store has, or will have


def copy_all(filling: Filling, found: list[Found]) -> Iterator[Entered]:
    """Copy each file, several large ones at a time; yield what it turned out to be.

    Raises:
        DataError: a file is being written meanwhile, or is gone.
        OSError: the store cannot be written.
    """
    sizes = [size_of(stamp) for _, stamp in found]
    large = [one for one, size in zip(found, sizes, strict=True) if size >= LARGE_BYTES]
    reserved = [filling.reserve() for _ in large]
    with threads() as pool:
        copied = pool.map(_copy_large, reserved, [path for path, _ in large])
        beside = iter(reserved)
        for (path, stamp), size in zip(found, sizes, strict=True):
            if size < LARGE_BYTES:
                yield _copy_small(filling, path, stamp, size)
                continue
            digest, after = next(copied)
            filling.register(next(beside), digest.hex(), size_of(after))
            yield digest, after


def _copy_small(filling: Filling, path: str, stamp: bytes, size: int) -> Entered:
    descriptor = open_to_read(path)
    try:
        for _ in range(TRIES):
            content = _read(descriptor, size + 1, path)
            after = stamp_of(os.fstat(descriptor))
            if len(content) == size and after == stamp:
                digest = hashlib.md5(content, usedforsecurity=False)
                if filling.lacks(md5 := digest.hexdigest()):
                    filling.add(md5, content)
                return digest.digest(), after
            os.lseek(descriptor, 0, os.SEEK_SET)
            stamp, size = after, size_of(after)
    finally:
        os.close(descriptor)
    raise being_written(path)


def _read(descriptor: int, size: int, path: str) -> bytes:
    try:
        return os.read(descriptor, size)
    except OSError as error:
        raise _naming(error, path) from error


def _naming(error: OSError, path: str) -> OSError:
    """Name the file that could not be read; what cannot be written is a matter of the store."""
    if error.errno in files.FULL:
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
