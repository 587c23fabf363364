"""The objects of DVC's cache, or of a folder that is a remote, each under its MD5.

A name there never stands for half a file: objects are written beside, synced together, and only
then renamed, with the mode 0444 that DVC takes as the sign of a whole one. A folder `xx` that the
store does not have yet comes with all its objects in one rename.
"""

import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mlstack import files
from mlstack.errors import DataError

MODE = 0o444
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL
BESIDE = ".mlstack-"
LOCK = "lock"
BEGINNING_S = 60  # that a folder beside may be without its lock: its process is just beginning
FEW = 5_000  # objects that are sooner looked for one by one than in lists of all that is there
BATCH_BYTES = 1 << 30  # of objects that are synced together
OBJECT_BYTES = 8 << 10  # that one counts for in it, beside its own
FICLONE = 0x40049409  # <linux/fs.h>


@dataclass(frozen=True)
class Objects:
    """A folder `files/md5` in DVC's layout: the object `xxyyy...` is the file `xx/yyy...`."""

    home: Path

    @cached_property
    def _prefix(self) -> str:
        return f"{self.home}/"  # a Path is slow to write, 100,000 times

    def path(self, md5: str) -> str:
        """Give the file of an object."""
        return self._prefix + md5[:2] + "/" + md5[2:]

    def missing(self, wanted: Iterable[str]) -> set[str]:
        """Name those of some objects that are not here, listing folders where they are many."""
        asked = set(wanted)
        if len(asked) < FEW:
            return {md5 for md5 in asked if not os.path.exists(self.path(md5))}  # noqa: PTH110
        here = set()
        for folder in {md5[:2] for md5 in asked}:
            here.update(self.listed(folder))
        return asked - here

    def listed(self, folder: str) -> list[str]:
        """Give the MD5 of each object in one of the folders `xx`."""
        try:
            names = os.listdir(f"{self.home}/{folder}")  # noqa: PTH208  names alone
        except FileNotFoundError:
            return []
        return [folder + name for name in names]

    @contextmanager
    def opened(self, folder: str) -> Iterator[int]:
        """Open one of the folders `xx`: names in it are found without walking the path.

        Raises:
            FileNotFoundError: it is not there.
        """
        descriptor = os.open(f"{self.home}/{folder}", os.O_RDONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def filling(self) -> Iterator["Filling"]:
        """Open the store for writing; what was added is there, and durable, when the block is over.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        beside = self.home.parent / f"{BESIDE}{os.urandom(4).hex()}"
        self.home.mkdir(parents=True, exist_ok=True)
        self._sweep()
        try:
            with files.lock(beside / "lock", "its own objects"):
                filling = Filling(self, str(beside))
                try:
                    yield filling
                except (
                    DataError,
                    OSError,
                ) as error:  # keep what is whole
                    if getattr(error, "errno", None) not in files.FULL:
                        with suppress(OSError):
                            filling.flush()
                    raise
                else:
                    filling.flush()
                finally:
                    filling.close()
            sync(self.home)
        finally:
            _remove(beside)

    def _sweep(self) -> None:
        """Remove what killed processes left beside."""
        for left in self.home.parent.glob(f"{BESIDE}*"):
            with suppress(FileNotFoundError):  # its process has ended
                lock = left / LOCK
                old = abs(time.time() - left.stat().st_mtime) > BEGINNING_S
                if not files.is_locked(lock) if lock.is_file() else old:
                    _remove(left)


@dataclass
class _Waiting:
    """A folder `xx` beside a store, with objects that will have their names together."""

    descriptor: int  # names in it are found without walking the path
    names: list[str] = field(default_factory=list)


@dataclass
class Filling:
    """Objects on their way into a store."""

    store: Objects
    beside: str  # a folder on the same file system, laid out like the store
    _reserved: int = 0
    _waiting: dict[str, _Waiting] = field(default_factory=dict)  # by folder `xx`
    _waiting_bytes: int = 0
    _present: set[str] = field(default_factory=set)  # what the listed folders hold, and will
    _listed: set[str] = field(default_factory=set)  # folders `xx`
    _asked: int = 0  # objects that were looked for one by one

    def lacks(self, md5: str) -> bool:
        """Tell whether an object is neither in the store nor on its way."""
        if md5 in self._present:
            return False
        if md5[:2] not in self._listed:
            if self._asked < FEW:
                self._asked += 1
                return not os.path.exists(self.store.path(md5))  # noqa: PTH110
            self._list(md5[:2])
        return md5 not in self._present

    def missing(self, wanted: set[str]) -> set[str]:
        """Name those of some objects that are neither in the store nor on their way."""
        for folder in {md5[:2] for md5 in wanted} - self._listed:
            self._list(folder)
        return wanted - self._present

    def _list(self, folder: str) -> None:
        self._listed.add(folder)
        self._present.update(self.store.listed(folder))

    def add(self, md5: str, content: bytes) -> None:
        """Write an object from memory."""
        waiting = self._waiting.get(md5[:2]) or self._begin(md5[:2])
        name = md5[2:]
        try:
            descriptor = os.open(name, CREATE, MODE, dir_fd=waiting.descriptor)
            try:
                written = os.write(descriptor, content)
                if written < len(content):
                    write(descriptor, memoryview(content)[written:])
            except OSError:  # half an object shall not arrive with the others
                os.unlink(name, dir_fd=waiting.descriptor)
                raise
            finally:
                os.close(descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.store.path(md5)) from error
        waiting.names.append(name)
        self._present.add(md5)
        self._waiting_bytes += len(content) + OBJECT_BYTES
        if self._waiting_bytes >= BATCH_BYTES:
            self.flush()

    def reserve(self) -> str:
        """Name a file beside for an object that somebody else writes."""
        self._reserved += 1
        return f"{self.beside}/new-{self._reserved}"

    def register(self, beside: str, md5: str, size_bytes: int) -> None:
        """Take over an object that was written to a reserved name."""
        if not self.lacks(md5):
            Path(beside).unlink()
            return
        waiting = self._waiting.get(md5[:2]) or self._begin(md5[:2])
        Path(beside).rename(Path(self.beside, md5[:2], md5[2:]))
        waiting.names.append(md5[2:])
        self._present.add(md5)
        self._waiting_bytes += size_bytes
        if self._waiting_bytes >= BATCH_BYTES:
            self.flush()

    def link(self, md5: str, source: str) -> None:
        """Give a file the object's name too.

        Raises:
            OSError: the file system cannot.
        """
        target = self.store.path(md5)
        try:
            os.link(source, target)
        except FileNotFoundError:
            Path(target).parent.mkdir(exist_ok=True)
            os.link(source, target)
        self._present.add(md5)

    def drop(self, md5: str) -> None:
        """Take an object away again."""
        Path(self.store.path(md5)).unlink(missing_ok=True)
        self._present.discard(md5)

    def flush(self) -> None:
        """Sync what is beside and give it its names."""
        if self._waiting:
            sync(self.beside)
        for folder, waiting in self._waiting.items():
            self._enter(folder, waiting.names)
        self.close()

    def close(self) -> None:
        """Let go of the folders beside."""
        for waiting in self._waiting.values():
            os.close(waiting.descriptor)
        self._waiting.clear()
        self._waiting_bytes = 0

    def _begin(self, folder: str) -> _Waiting:
        """Make a folder beside, for the first object in it."""
        beside = f"{self.beside}/{folder}"
        Path(beside).mkdir(exist_ok=True)
        waiting = self._waiting[folder] = _Waiting(os.open(beside, os.O_RDONLY))
        return waiting

    def _enter(self, folder: str, names: list[str]) -> None:
        beside, target = f"{self.beside}/{folder}", f"{self.store.home}/{folder}"
        try:
            Path(beside).rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
        for name in names:
            os.rename(f"{beside}/{name}", f"{target}/{name}")  # noqa: PTH104  100,000 of them
        Path(beside).rmdir()


def create(path: str) -> int:
    """Open a new file that will be an object."""
    return os.open(path, CREATE, MODE)


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


def copy_unseen(source: int, target: int, size_bytes: int) -> str:
    """Copy what is left of a file without reading it; say what went wrong, nothing if nothing."""
    left = 0 if clone(source, target) else size_bytes
    while left > 0 and (count := os.sendfile(target, source, None, min(left, 1 << 30))):
        left -= count
    return "cut off" if left else ""


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


def _remove(beside: Path) -> None:
    """Remove a folder beside a store; as long as its lock is there, `_sweep` will try again."""
    with suppress(OSError):
        for left in beside.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            elif left.name != LOCK:
                left.unlink()
    shutil.rmtree(beside, ignore_errors=True)
