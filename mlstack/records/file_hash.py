"""The MD5 of files, each with the stamp that says whether it is still the same file."""

import hashlib
import os
import struct
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlstack import files
from mlstack.errors import DataError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

STAMP = struct.Struct("=4q")  # mtime_ns, ctime_ns, size in bytes, inode
LARGE_BYTES = 1 << 20  # from here on hashing takes longer than waking a thread for it
TRIES = 3


def stamp_of(status: os.stat_result) -> bytes:
    """Pack what tells one state of a file from another."""
    return STAMP.pack(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def size_of(stamp: bytes) -> int:
    """Give the size in bytes that a stamp holds."""
    size: int = STAMP.unpack(stamp)[2]
    return size


def sizes_of(found: list[tuple[str, bytes]]) -> list[int]:
    """Give the size in bytes of each file, given as path and stamp."""
    return array("q", b"".join([stamp for _, stamp in found]))[2::4].tolist()


def hash_files(found: list[tuple[str, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the MD5 and the stamp of each file, several large ones at a time.

    Args:
        found: path and stamp of each file.

    Raises:
        DataError: a file is being written, or is gone.
    """
    if len(found) > 1 and max(sizes_of(found)) >= LARGE_BYTES:
        with threads() as pool:
            yield from pool.map(lambda one: hash_file(*one), found)
    else:
        for path, stamp in found:
            yield hash_file(path, stamp)


@contextmanager
def threads() -> Iterator["ThreadPoolExecutor"]:
    """Open a thread for each core; what has not begun when the block is left never does."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  8 ms; few files are large

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def hash_file(path: str, stamp: bytes) -> tuple[bytes, bytes]:
    """Give the MD5 of a file and its stamp, which was the same before and after reading.

    Args:
        path: the file.
        stamp: what it looked like just before.

    Raises:
        DataError: the file is being written, or is gone.
    """
    descriptor = open_to_read(path)
    try:
        return hash_open(path, descriptor, stamp)
    finally:
        os.close(descriptor)


def hash_open(path: str, descriptor: int, stamp: bytes) -> tuple[bytes, bytes]:
    """Do the same for a file that was just opened."""
    size = size_of(stamp)
    if size < LARGE_BYTES:  # nearly always: two calls to the kernel
        content = os.read(descriptor, size + 1)
        if len(content) == size and stamp_of(os.fstat(descriptor)) == stamp:
            return hashlib.md5(content, usedforsecurity=False).digest(), stamp
    return _hash_steady(path, descriptor)


def open_to_read(path: str) -> int:
    """Open a file of the user's.

    Raises:
        DataError: it is gone or may not be read.
    """
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise DataError(
            f"cannot read `{path}`: {error.strerror}", hint="is it being moved? Then try again"
        ) from error


def being_written(path: str) -> DataError:
    """Give the error of a file that changes while it is read."""
    return DataError(
        f"`{path}` changes while it is read", hint="wait until it is written, then try again"
    )


def _hash_steady(path: str, descriptor: int) -> tuple[bytes, bytes]:
    before = stamp_of(os.fstat(descriptor))
    for _ in range(TRIES):
        os.lseek(descriptor, 0, os.SEEK_SET)
        digest = files.md5_of_descriptor(descriptor, size_of(before))
        after = stamp_of(os.fstat(descriptor))
        if after == before:
            return digest, after
        before = after
    raise being_written(path)
