"""The objects of DVC's cache, or of a folder that is a remote, each under its MD5.

A name there never stands for half a file: objects are written beside, synced together, and only
then renamed, with the mode 0444 that DVC takes as the sign of a whole one.
"""

import ctypes
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mlstack import files

MODE = 0o444
BESIDE = ".mlstack-"
BATCH = 10_000  # objects that are synced together
BATCH_BYTES = 1 << 30
FICLONE = 0x40049409  # <linux/fs.h>


@dataclass(frozen=True)
class Objects:
    """A folder `files/md5` in DVC's layout: the object `xxyyy...` is the file `xx/yyy...`."""

    home: Path

    def path(self, md5: str) -> str:
        """Give the file of an object."""
        return f"{self.home}/{md5[:2]}/{md5[2:]}"

    def missing(self, wanted: Iterable[str]) -> set[str]:
        """Name those of some objects that are not here, by listing the folders they would be in."""
        by_folder: dict[str, set[str]] = {}
        for md5 in wanted:
            by_folder.setdefault(md5[:2], set()).add(md5[2:])
        return {
            folder + name
            for folder, names in by_folder.items()
            for name in names - self.names(folder)
        }

    def names(self, folder: str) -> set[str]:
        """List what lies in one of the folders `xx`."""
        try:
            return set(os.listdir(f"{self.home}/{folder}"))  # noqa: PTH208  names alone
        except FileNotFoundError:
            return set()

    @contextmanager
    def filling(self) -> Iterator["Filling"]:
        """Open the store for writing; what was added is there, and durable, when the block is over.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        beside = self.home.parent / f"{BESIDE}{secrets.token_hex(4)}"
        self.home.mkdir(parents=True, exist_ok=True)
        self._sweep()
        try:
            with files.lock(beside / "lock", "its own objects"):
                filling = Filling(self, str(beside))
                try:
                    yield filling
                except BaseException as error:  # what is whole stays, but on a disk that is full
                    if getattr(error, "errno", None) not in files.FULL:
                        with suppress(OSError):
                            filling.flush()
                    raise
                filling.flush()
            sync(self.home)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what killed processes left beside."""
        for left in self.home.parent.glob(f"{BESIDE}*"):
            lock = left / "lock"  # none yet: its process is just beginning
            if lock.is_file() and not files.is_locked(lock):
                shutil.rmtree(left, ignore_errors=True)


@dataclass
class Filling:
    """Objects on their way into a store."""

    store: Objects
    beside: str  # a folder on the same file system
    _reserved: int = 0
    _waiting: list[tuple[str, str]] = field(default_factory=list)  # written beside, and MD5
    _waiting_bytes: int = 0
    _present: dict[str, set[str]] = field(default_factory=dict)  # folder `xx` -> names

    def lacks(self, md5: str) -> bool:
        """Tell whether an object is neither in the store nor on its way."""
        return md5[2:] not in self._names(md5[:2])

    def add(self, md5: str, content: bytes) -> None:
        """Write an object from memory."""
        beside = self.reserve()
        descriptor = create(beside)
        try:
            write(descriptor, memoryview(content))
        finally:
            os.close(descriptor)
        self.register(beside, md5, len(content))

    def reserve(self) -> str:
        """Name a file beside for an object that somebody else writes."""
        self._reserved += 1
        return f"{self.beside}/{self._reserved}"

    def register(self, beside: str, md5: str, size_bytes: int) -> None:
        """Take over an object that was written to a reserved name."""
        self._waiting.append((beside, md5))
        self._names(md5[:2]).add(md5[2:])
        self._waiting_bytes += size_bytes
        if len(self._waiting) >= BATCH or self._waiting_bytes >= BATCH_BYTES:
            self.flush()

    def link(self, md5: str, source: str) -> None:
        """Give a file the object's name too, and the object's mode.

        Raises:
            OSError: the file system cannot.
        """
        names = self._names(md5[:2])
        target = self.store.path(md5)
        os.link(source, target)
        os.chmod(target, MODE)  # noqa: PTH101  100,000 of them
        names.add(md5[2:])

    def drop(self, md5: str) -> None:
        """Take an object away again."""
        Path(self.store.path(md5)).unlink(missing_ok=True)
        self._names(md5[:2]).discard(md5[2:])

    def forget(self, md5: str) -> None:
        """Let an object that is on its way not arrive."""
        self._waiting = [one for one in self._waiting if one[1] != md5]
        self._names(md5[:2]).discard(md5[2:])

    def flush(self) -> None:
        """Sync what is beside and give it its names."""
        if self._waiting:
            sync(self.beside)
        for beside, md5 in self._waiting:
            os.rename(beside, self.store.path(md5))  # noqa: PTH104  100,000 of them
        self._waiting.clear()
        self._waiting_bytes = 0

    def _names(self, folder: str) -> set[str]:
        if folder not in self._present:
            (self.store.home / folder).mkdir(exist_ok=True)
            self._present[folder] = self.store.names(folder)
        return self._present[folder]


def create(path: str) -> int:
    """Open a new file that will be an object."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, MODE)


def copy(source: int, target: int, size_bytes: int) -> bytes:
    """Copy what is left of a file, up to a size, reading it once; give the MD5, 16 bytes."""
    if clone(source, target):
        return files.md5_of_descriptor(target, size_bytes)
    digest = hashlib.md5(usedforsecurity=False)
    buffer = memoryview(bytearray(files.CHUNK_BYTES))
    left = size_bytes
    while left > 0 and (count := os.readv(source, [buffer[:left]])):
        digest.update(buffer[:count])
        write(target, buffer[:count])
        left -= count
    return digest.digest()


def clone(source: int, target: int) -> bool:
    """Let a new file share the blocks of another (reflink); say whether the file system could."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError:
        return False
    return True


def write(descriptor: int, content: memoryview) -> None:
    """Write all of it."""
    written = os.write(descriptor, content)
    while written < len(content):
        written += os.write(descriptor, content[written:])


def sync(path: str | Path) -> None:
    """Make everything written to the file system that holds `path` durable."""
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if not hasattr(library, "syncfs") or library.syncfs(descriptor):
            os.sync()
    finally:
        os.close(descriptor)
