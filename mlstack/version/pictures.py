"""Every image of a dataset decoded once, on all cores: what is damaged, its size, its likeness."""

import os
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal

import numpy as np
import numpy.typing as npt

from mlstack.errors import DataError, MachineError
from mlstack.inputs import images
from mlstack.records.base import Record
from mlstack.stats import twins
from mlstack.version.result import Counted

GREY = images.ImageSpec(16, 18, 1)  # twice the 8 x 9 that a fingerprint is made of
CHUNK = 200  # images of one task
FEW = 600  # that are faster looked at than processes started
DISTANCE = 4  # bits of 64 in which the fingerprints of near copies may differ
ALIKE = 0.997  # correlation of 18 x 16 pixels; of different digits at most 0.9961
MOST = 10_000  # pairs; who has more needs no longer list
FLAT = 4.0  # brightness levels of deviation; an image of less has no likeness to compare


@dataclass(frozen=True)
class Album:
    """What was seen of the images; the arrays are in the order of `paths`."""

    paths: list[str]  # those that could be decoded
    looks: list[images.Look]
    grey: npt.NDArray[np.uint8]  # (images, 16, 18)
    damaged: dict[str, str]  # path -> what is wrong


def scan(folder: Path, paths: list[str]) -> Generator[Record, None, Album]:
    """Decode images; yield progress, give the album."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    seen: list[_Seen] = []
    for done in _on_all_cores(folder, chunks, len(paths)):
        seen += done
        yield Counted(text="looking at images", done=len(seen), total=len(paths))
    whole = [(path, one) for path, one in zip(paths, seen, strict=True) if not isinstance(one, str)]
    return Album(
        paths=[path for path, _ in whole],
        looks=[look for _, (look, _) in whole],
        grey=np.array([grey for _, (_, grey) in whole], np.uint8).reshape(-1, 16, 18),
        damaged={p: one for p, one in zip(paths, seen, strict=True) if isinstance(one, str)},
    )


def near_copies(album: Album, parts: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Find pairs of images of different parts that look alike but for scale or compression.

    Args:
        album: the images.
        parts: number of the part of each image; a negative one is in none.

    Returns:
        positions in the album, sorted.
    """
    flat = album.grey.reshape(len(album.grey), -1).astype(np.float32)  # (images, 288)
    level = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(level, axis=1)
    kept = np.flatnonzero((length > FLAT * np.sqrt(level.shape[1])) & (parts >= 0))
    shape, part = level[kept] / length[kept, None], parts[kept]
    small = album.grey[kept].reshape(-1, 8, 2, 9, 2).mean(axis=(2, 4))  # (kept, 8, 9)
    found: list[tuple[int, int]] = []
    for block in twins.near_pairs(twins.difference_hashes(small), DISTANCE):
        first, second = block[part[block[:, 0]] != part[block[:, 1]]].T
        alike = np.einsum("ij,ij->i", shape[first], shape[second]) >= ALIKE
        pairs = kept[first[alike]], kept[second[alike]]
        found += zip(pairs[0].tolist(), pairs[1].tolist(), strict=True)
        if len(found) >= MOST:
            break
    return sorted(found)


_Seen = tuple[images.Look, npt.NDArray[np.uint8]] | str


def _on_all_cores(folder: Path, chunks: list[list[str]], count: int) -> Iterator[list[_Seen]]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if count <= FEW or cores == 1:
        yield from (_look(folder, chunk) for chunk in chunks)
        return
    # Spawned, not forked: the progress bar has a thread.
    with ProcessPoolExecutor(cores, get_context("spawn"), _leave_interrupts_alone) as pool:
        try:
            yield from pool.map(_look, [folder] * len(chunks), chunks)
        except BrokenProcessPool as error:
            raise MachineError(
                "a process that looked at images was killed",
                hint="is the memory full? Free some, then try again",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _leave_interrupts_alone() -> None:
    signal(SIGINT, SIG_IGN)  # the process that shows the error answers Ctrl-C


def _look(folder: Path, paths: list[str]) -> list[_Seen]:
    return [_look_at(folder / path) for path in paths]


def _look_at(path: Path) -> _Seen:
    try:
        look, grey = images.look(path.read_bytes(), GREY)
    except DataError as error:
        return error.problem
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return look, grey[:, :, 0]
