"""Forget decoded images that nothing needs: a smaller folder takes the place of each store.

Nothing that is mapped is touched: a running training keeps the files that it opened, and the disk
gives their room back when it ends. Whoever needs an image again decodes it again.
"""

import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlstack import files
from mlstack.errors import BusyError, ConfigError
from mlstack.inputs.decoded import AT_ONCE, FREE_SHARE, LINE_BYTES, Store
from mlstack.inputs.images import DECODERS, ImageSpec

UNUSED_DAYS = 14  # after which a size is no longer needed
NAME = re.compile(r"(\d+)x(\d+)x(\d+)-(\d+)")
LEFT = "."  # what begins so was left by a sweep that was killed


@dataclass(frozen=True)
class Swept:
    """What is needed of decoded images and what is not, in bytes."""

    needed_bytes: int
    spare_bytes: int


def sweep(state: Path, needed: Collection[str], *, delete: bool) -> Swept:
    """Look at all decoded images of a project; forget those that are not needed.

    Args:
        state: `.mlstack` of the project.
        needed: MD5 of the files whose images stay, in each size that was used of late.
        delete: whether to free what is spare, or only to count it. A store that somebody writes
            stays as it is.
    """
    needed_bytes = spare_bytes = 0
    for folder in _stores(state):
        size = _size(folder)
        least = _bytes(_kept(folder, needed))
        if least < size and (not delete or _shrink(folder, needed)):
            spare_bytes += size - least
            size = least
        needed_bytes += size
    return Swept(needed_bytes, spare_bytes)


@dataclass(frozen=True)
class Kept:
    """The images of a store that stay: rows by content, in their order."""

    store: Store
    rows: dict[str, int]


def _stores(state: Path) -> Iterator[Path]:
    folder = state / "decoded"
    if folder.is_dir():
        yield from sorted(place for place in folder.iterdir() if place.is_dir())


def _kept(folder: Path, needed: Collection[str]) -> Kept | None:
    """Choose what stays; None is nothing, of an unknown decoder for example."""
    named = NAME.fullmatch(folder.name)
    resize = {number: word for word, number in DECODERS.items()}
    if named is None or int(named[4]) not in resize:
        return None
    height, width, channels, decoder = map(int, named.groups())
    try:
        store = Store(folder, ImageSpec(height, width, channels, resize[decoder]))
    except ConfigError:  # no image has this size
        return None
    if _last_use(store) < time.time() - UNUSED_DAYS * 86_400:
        return None
    rows = {content: row for content, row in store.rows().items() if content in needed}
    return Kept(store, rows) if rows else None


def _last_use(store: Store) -> float:
    newest = [store.lock, store.folder / "pixels"]
    return max((place.stat().st_mtime for place in newest if place.is_file()), default=0.0)


def _bytes(kept: Kept | None) -> int:
    return len(kept.rows) * (kept.store.image_bytes + LINE_BYTES) if kept else 0


def _shrink(folder: Path, needed: Collection[str]) -> bool:
    """Put a folder of what stays in the place of a store; False when somebody writes it now."""
    name = folder.name.removeprefix(LEFT).partition(".")[0]
    beside, gone = (folder.with_name(f"{LEFT}{name}.{os.urandom(4).hex()}") for _ in range(2))
    try:
        with files.lock(folder.with_name(f"{name}.lock"), "decoding images"):
            kept = _kept(folder, needed)
            if kept and _bytes(kept) <= FREE_SHARE * shutil.disk_usage(folder).free:
                _copy(kept, beside)
            folder.rename(gone)
            if beside.is_dir():
                files.move(beside, folder)
            shutil.rmtree(gone)
    except BusyError:
        return False
    return True


def _copy(kept: Kept, beside: Path) -> None:
    """Write the images that stay, and then what they are."""
    _, pixels = kept.store.mapped()
    rows = list(kept.rows.values())
    some = (pixels[rows[at : at + AT_ONCE]].tobytes() for at in range(0, len(rows), AT_ONCE))
    files.extend(beside / "pixels", some)
    files.extend(beside / "contents", (f"{content}\n".encode() for content in kept.rows))


def _size(folder: Path) -> int:
    return sum(place.stat().st_size for place in folder.iterdir() if place.is_file())
