"""Decoded images, kept: each content is decoded once for a size, then mapped into memory.

`.mlstack/decoded/HEIGHTxWIDTHxCHANNELS-DECODER/` holds `pixels` (uint8, one image after another)
and `contents` (the MD5 of each, 32 hexadecimal digits and a newline). Both only grow: what is there
is whole, what stands behind it is cut off by the next writer. `sweep` puts a smaller folder in its
place; whoever has mapped the images of the former goes on with them. A cache; delete it and it
comes back.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from mlstack import files, packed
from mlstack.errors import DataError
from mlstack.inputs.images import DECODERS, ImageSpec, load
from mlstack.inputs.kept import state_of

LINE_BYTES = 33
AT_ONCE = 256  # images that are decoded before they are written
FREE_SHARE = 0.8  # of the free disk that may be filled

Tell = Callable[[int, int], None]  # images that are decoded, of how many


@dataclass(frozen=True)
class Store:
    """The images of one size."""

    folder: Path
    spec: ImageSpec

    @property
    def image_bytes(self) -> int:
        """Size of one image."""
        return self.spec.height * self.spec.width * self.spec.channels

    @property
    def lock(self) -> Path:
        """Held by whoever changes the store; written last when it was last used."""
        return self.folder.with_name(f"{self.folder.name}.lock")

    def rows(self) -> dict[str, int]:
        """Give where each content stands."""
        return self.mapped()[0]

    def mapped(self) -> tuple[dict[str, int], np.ndarray]:
        """Give where each content stands, and the images; changes to them stay in memory.

        Both are of the same folder, also while another is put in its place.

        Returns:
            Rows by content, and uint8 of shape (rows, height, width, channels).
        """
        shape = (self.spec.height, self.spec.width, self.spec.channels)
        try:
            with opened(self.folder) as file_of, file_of("contents") as names:
                known = names.read()
                with file_of("pixels") as pixels:
                    size = os.fstat(pixels.fileno()).st_size
                    count = min(size // self.image_bytes, len(known) // LINE_BYTES)
                    found = _map(pixels, (count, *shape))
        except FileNotFoundError:
            return {}, np.empty((0, *shape), dtype=np.uint8)
        whole = known[: count * LINE_BYTES].decode("ascii", "replace")
        return {content: row for row, content in enumerate(whole.splitlines())}, found

    def used(self) -> None:
        """Note that the store is used: one that is not for long is forgotten."""
        with suppress(OSError):  # a folder that may only be read
            self.lock.parent.mkdir(parents=True, exist_ok=True)
            self.lock.touch()


@contextmanager
def opened(folder: Path) -> Iterator[Callable[[str], BinaryIO]]:
    """Open files of one folder, whatever takes its name meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield lambda name: os.fdopen(os.open(name, os.O_RDONLY, dir_fd=descriptor), "rb")
    finally:
        os.close(descriptor)


def _map(pixels: BinaryIO, shape: tuple[int, ...]) -> np.ndarray:
    if not shape[0]:
        return np.empty(shape, dtype=np.uint8)
    return np.memmap(pixels, dtype=np.uint8, mode="c", shape=shape)


class Announcer:
    """Tells how far decoding is, to whoever asked for it."""

    def __init__(self) -> None:
        self.tell: Tell = lambda done, total: None


announcer = Announcer()


def images(examples: str | Path, table: pa.Table, spec: ImageSpec) -> tuple[np.ndarray, np.ndarray]:
    """Map the images of examples, decoding those that are not known yet.

    Args:
        examples: file of the examples, which says whose images they are.
        table: its rows, or some of them: `path`, and `md5` of its content where that is known.
        spec: size that images are brought to.

    Returns:
        Images, uint8 (images, height, width, channels), and the place of each row's image among
        them, int64 (rows,). Where the disk is too full to keep them, they are decoded into memory.

    Raises:
        DataError: an image is missing or damaged; its path is named.
        MachineError: the disk is full or the folder cannot be written.
    """
    store = _beside(Path(examples), spec)
    paths: list[str] = table["path"].to_pylist()
    contents = _contents(table, paths)
    known, pixels = store.mapped()
    store.used()
    if any(content not in known for content in contents):
        # Other ranks and trials want the same images: the first decodes, the others wait.
        with files.lock(store.lock, "decoding images", wait=True):
            known = store.rows()
            new = {c: p for c, p in zip(contents, paths, strict=True) if c not in known}
            if not _fits(store, len(new)):
                return np.concatenate(list(_decoded(paths, spec))), np.arange(len(paths))
            _add(store, known, new)
            known, pixels = store.mapped()
    places = np.fromiter((known[content] for content in contents), np.int64, len(contents))
    return pixels, places


def has_room(examples: str | Path, table: pa.Table, spec: ImageSpec) -> bool:
    """Tell whether `images` could keep all images of these examples on the disk."""
    store = _beside(Path(examples), spec)
    store.folder.parent.mkdir(parents=True, exist_ok=True)
    known = store.rows()
    contents = set(_contents(table, table["path"].to_pylist()))
    return _fits(store, len(contents - known.keys()))


def _beside(examples: Path, spec: ImageSpec) -> Store:
    """Give the store of the project that a table of examples belongs to."""
    size = f"{spec.height}x{spec.width}x{spec.channels}-{DECODERS[spec.resize]}"
    return Store(state_of(examples) / "decoded" / size, spec)


def _contents(table: pa.Table, paths: list[str]) -> list[str]:
    if "md5" in table.column_names:
        found: list[str] = table["md5"].to_pylist()
        return found
    return [_md5(path) for path in paths]


def _md5(path: str) -> str:
    try:
        return hashlib.md5(packed.read(path), usedforsecurity=False).hexdigest()
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror}") from error


def _fits(store: Store, count: int) -> bool:
    free = shutil.disk_usage(store.folder.parent).free
    return count * store.image_bytes <= FREE_SHARE * free


def _add(store: Store, known: dict[str, int], new: dict[str, str]) -> None:
    """Append the images of `new`, content to path: pixels first, then what they are."""
    store.folder.mkdir(parents=True, exist_ok=True)
    pixels, contents = store.folder / "pixels", store.folder / "contents"
    files.cut(pixels, len(known) * store.image_bytes)
    files.cut(contents, len(known) * LINE_BYTES)
    names = iter(new)
    for arrays in _decoded(list(new.values()), store.spec):
        files.extend(pixels, [array.tobytes() for array in arrays])
        files.extend(contents, [f"{content}\n".encode() for content in islice(names, len(arrays))])


def _decoded(paths: list[str], spec: ImageSpec) -> Iterator[list[np.ndarray]]:
    """Decode files in their order, some at a time, on all cores: Pillow does without the GIL."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, len(paths), AT_ONCE):
            some = paths[start : start + AT_ONCE]
            arrays = list(threads.map(lambda path: load(path, spec), some))
            announcer.tell(start + len(some), len(paths))
            yield arrays
