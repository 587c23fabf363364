"""Files on their way into chunks: what changed in place costs only the chunks around it.

The cuts are where the content says (FastCDC, Xia et al. 2020), so bytes that are put into the
middle of a file move no cut behind them.
"""

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

import pyfastcdc

from mlstack import files
from mlstack.records.base import Record
from mlstack.records.data_folder import Look
from mlstack.records.file_hash import being_written, open_to_read, size_of, stamp_of
from mlstack.version import chunked, objects
from mlstack.version.chunked import CHUNKS, LISTS, Whole
from mlstack.version.placement import remove
from mlstack.version.result import Counted

# A change in one place costs about one chunk; DVC lists and moves each chunk as a file.
MEAN_BYTES = 1 << 18
STEP_BYTES = 64 << 20  # between two movements of the progress bar


def chunk(seen: Look, folder: Path) -> Generator[Record, None, None]:
    """Bring chunks up to date with a dataset folder, of which `seen` learns the MD5s.

    Args:
        seen: a fresh look at the dataset folder.
        folder: `NAME.chunks`, as it was in the version before.

    Raises:
        DataError: a file changes meanwhile.
        MachineError: the disk is full.
    """
    before = chunked.of_folder(folder)
    entries = before.entries if chunked.TABLE in before.places else {}
    seen.read_unless(entries)
    paths = set(seen.paths())
    try:
        remove(folder / LISTS, sorted(entries.keys() - paths))
        fresh = yield from _cut_all(seen, folder)
        members = {path: before.members[path] for path in paths - fresh.keys()} | fresh
        table = chunked.table(members)
        if (
            not (folder / chunked.TABLE).is_file()
            or table != before.places[chunked.TABLE].read_bytes()
        ):
            files.write_bytes(folder / chunked.TABLE, table)
        _sweep(folder)
    except OSError as error:
        raise files.cannot_write(folder, error) from error


def write(folder: Path, contents: Iterable[bytes]) -> tuple[list[str], str, int]:
    """Write chunks that are not there yet; give their names, and MD5 and size of the whole."""
    whole = hashlib.md5(usedforsecurity=False)
    names, size = [], 0
    for content in contents:
        whole.update(content)
        size += len(content)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        names.append(f"{md5[:2]}/{md5[2:]}")
        _put(folder / CHUNKS / names[-1], content)
    return names, whole.hexdigest(), size


def write_list(folder: Path, path: str, names: list[str]) -> None:
    """Write which chunks make a file."""
    place = folder / LISTS / path
    place.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(place, "".join(f"{name}\n" for name in names).encode())


def _cut_all(seen: Look, folder: Path) -> Generator[Record, None, dict[str, Whole]]:
    found = seen.found()
    top, total, done, shown = len(str(seen.folder)) + 1, 0, 0, 0
    total = sum(size_of(stamp) for _, stamp in found)
    fresh: dict[str, Whole] = {}
    for number, (place, _) in enumerate(found):
        path = place[top:]
        descriptor = open_to_read(place)
        try:
            stamp = stamp_of(os.fstat(descriptor))
            names, md5, size = write(folder, _cuts(descriptor))
            if size != size_of(stamp) or stamp_of(os.fstat(descriptor)) != stamp:
                raise being_written(place)
        finally:
            os.close(descriptor)
        write_list(folder, path, names)
        seen.learn(number, bytes.fromhex(md5), stamp)
        fresh[path] = Whole(md5, size)
        done += size
        if done - shown >= STEP_BYTES or number == 0:
            shown = done
            yield Counted(text="into chunks", done=done, total=total, unit="bytes")
    objects.sync(folder)
    return fresh


def _cuts(descriptor: int) -> Iterator[bytes]:
    cutter = pyfastcdc.FastCDC(MEAN_BYTES)
    with os.fdopen(descriptor, "rb", closefd=False) as stream:
        for cut in cutter.cut_stream(stream):
            yield bytes(cut.data)


def _put(place: Path, content: bytes) -> None:
    if place.is_file():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name}.{os.urandom(4).hex()}.tmp")
    try:
        beside.write_bytes(content)
        beside.rename(place)
    finally:
        beside.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove chunks that no list names any more."""
    now = chunked.of_folder(folder)
    named = {CHUNKS + name for path in now.members for name in now.names(path)}
    for name in now.places.keys() - named:
        if name.startswith(CHUNKS):
            now.places[name].unlink()


def settle(folder: Path, wanted: dict[str, str], pour: Callable[[str], Iterable[bytes]]) -> None:
    """Write the lists and the table of a merged version; chunks of both sides lie in the folder.

    Args:
        folder: with the chunks of both sides.
        wanted: MD5 of each file by its path.
        pour: gives the content of each of them by its MD5.
    """
    members = {}
    for path, md5 in wanted.items():
        names, _, size = write(folder, pour(md5))
        write_list(folder, path, names)
        members[path] = Whole(md5, size)
    files.write_bytes(folder / chunked.TABLE, chunked.table(members))
    _sweep(folder)
