"""How a file and its object in the cache share their bytes: reflink, hard link, or not at all."""

import os
from pathlib import Path

from mlstack.version import objects

REFLINK, HARDLINK, COPY = "reflink", "hardlink", "copy"


def choose(wanted: tuple[str, ...], folder: Path, cache: Path) -> str:
    """Try the kinds in the order that `cache.type` names them; give the first that works.

    Args:
        wanted: kinds, the best first.
        folder: where the files are; it exists.
        cache: a folder on the cache's file system.
    """
    origin = cache / f".probe-{os.urandom(4).hex()}"
    origin.write_bytes(b"probe")
    try:
        return next((kind for kind in wanted if _works(kind, origin, folder)), COPY)
    finally:
        origin.unlink()


def _works(kind: str, origin: Path, folder: Path) -> bool:
    trial = folder.parent / f"{origin.name}.tmp"  # beside the data, not in it
    try:
        if kind == HARDLINK:
            os.link(origin, trial)
            return True
        return kind == COPY or _clones(origin, trial)
    except OSError:
        return False
    finally:
        trial.unlink(missing_ok=True)


def _clones(origin: Path, trial: Path) -> bool:
    with origin.open("rb") as source, trial.open("wb") as target:
        return objects.clone(source.fileno(), target.fileno())
