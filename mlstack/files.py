"""Atomic files, hashes, walks and locks: the only module that renames and fsyncs."""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlstack.errors import BusyError, MachineError

CHUNK_BYTES = 1 << 20
LIMITS = {
    errno.EDQUOT: "free some space; the disk quota is used up",
    errno.EFBIG: "see `ulimit -f`, how large a file may get here",
    errno.EROFS: "the disk is read-only; choose a folder that can be written",
}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, somebody's share of it, a file


def write_bytes(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Replace `path` by `content`: written beside, synced, renamed; never half there.

    `mode` is what the file may be from its first moment on; the umask takes from it.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def write_chunks(path: Path, chunks: Iterable[bytes], *, mode: int = 0o644) -> None:
    """Replace `path` by bytes as they come; an error on the way leaves nothing.

    Written beside, synced, renamed; permissions last, since DVC trusts whatever is read-only. The
    folder is not synced: a name that is lost costs a second copy, and a sync for each is dear.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        with beside.open("wb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(path)
        path.chmod(mode)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise cannot_write(path, error) from error
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def extend(path: Path, chunks: Iterable[bytes]) -> None:
    """Append bytes as they come, and sync; what has arrived before an error stays.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("ab") as stream:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error


def cut(path: Path, size_bytes: int) -> None:
    """Cut off what stands behind a size; a file that is not there is made.

    Raises:
        MachineError: the folder cannot be written.
    """
    try:
        with path.open("ab") as stream:
            stream.truncate(size_bytes)
    except OSError as error:
        raise cannot_write(path, error) from error


def write_text(path: Path, content: str) -> None:
    """Replace `path` by `content` in UTF-8, atomically."""
    write_bytes(path, content.encode())


def copy_whole(source: Path, target: Path, mode: int) -> None:
    """Copy a file so that it appears whole, with its final permissions, or not at all.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    try:
        with source.open("rb") as reading, beside.open("xb") as writing:
            while chunk := reading.read(CHUNK_BYTES):
                writing.write(chunk)
            writing.flush()
            os.fsync(writing.fileno())
        beside.chmod(mode)
        beside.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise cannot_write(target, error) from error


def may_write(path: Path) -> bool:
    """Tell whether a file may be put there: for what saves time, and is not needed."""
    there = next(parent for parent in path.absolute().parents if parent.exists())
    return os.access(there, os.W_OK)


def write_hint(path: Path, content: str) -> None:
    """Replace `path` by `content`, whole but not synced: a power cut may bring the old one back.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(content)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def append_line(path: Path, line: bytes) -> None:
    """Append one line in one write, so that a reader never sees half of another writer's.

    Raises:
        MachineError: the disk is full, and holds nothing of the line; or it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        written = os.write(descriptor, line + b"\n")
        if written <= len(line):  # a disk that is nearly full takes a part, and says nothing
            end = os.lseek(descriptor, 0, os.SEEK_CUR)
            if os.fstat(descriptor).st_size == end:
                os.ftruncate(descriptor, end - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        os.close(descriptor)


def move(source: Path, target: Path) -> None:
    """Rename a finished file or folder into place and sync the folder that holds it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise cannot_write(target, error) from error


def link(source: Path, target: Path) -> None:
    """Give a finished file a second name, or a copy where the disk knows no links.

    Raises:
        MachineError: the disk is full or the folder cannot be written.
    """
    beside = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    try:
        try:
            beside.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, beside)
        beside.replace(target)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise cannot_write(target, error) from error


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the bytes of a file that somebody else wrote durable."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sha256(path: Path) -> str:
    """Hash a file, in hexadecimal."""
    return _digest(path, "sha256")


def md5(path: Path) -> str:
    """Hash a file as DVC does, in hexadecimal."""
    return _digest(path, "md5")


def md5_of_descriptor(descriptor: int, size_bytes: int) -> bytes:
    """Hash what is left to read of an open file, up to a size; 16 bytes."""
    digest = hashlib.md5(usedforsecurity=False)
    buffer = memoryview(bytearray(CHUNK_BYTES))
    left = size_bytes
    while left > 0 and (count := os.readv(descriptor, [buffer[:left]])):
        digest.update(buffer[:count])
        left -= count
    return digest.digest()


def walk(folder: Path) -> Iterator[Path]:
    """Yield every file below `folder` in name order, links followed, dot-files left out."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from walk(entry)
        else:
            yield entry


@contextmanager
def lock(path: Path, what: str, *, wait: bool = False) -> Iterator[int]:
    """Hold an exclusive lock for a block; the kernel frees it when the process dies.

    A child that is handed the descriptor which this yields holds it too, until it has ended.

    Raises:
        BusyError: another process holds it, and `wait` is not set.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise BusyError(
                f"another mlstack is busy with {what}",
                hint="wait for it to end and run the same command again",
                where=str(path),
            ) from error
        yield stream.fileno()


def is_locked(path: Path) -> bool:
    """Tell whether a process holds the lock `path` at this moment."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def cannot_write(path: Path, error: OSError) -> MachineError:
    """Give the error of a disk that is full or a place that may not be written."""
    if error.errno == errno.ENOSPC:
        return MachineError(f"the disk is full; `{path}` was not written", hint="free some space")
    hint = LIMITS.get(error.errno or 0, "check the folder's permissions")
    return MachineError(f"cannot write `{path}`: {error.strerror}", hint=hint)


def link_on_the_way(root: Path, source: str) -> str:
    """Name what is a symbolic link of a path below the project; empty where nothing is."""
    for part in (Path(source), *Path(source).parents):
        if part.name and (root / part).is_symlink():
            return part.as_posix()
    return ""
