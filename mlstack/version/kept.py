"""Whether the cache still holds a version, told by the times of its folders.

To look for the objects of 100,000 files takes a sixth of a snapshot of few new ones. One that is
taken away changes the time of its folder `xx`: where each folder looks as it did when all were
there, none need be looked for. A cache, like the index of files: without it the next snapshot is
slower.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from mlstack.errors import DataError
from mlstack.records import base
from mlstack.records.cache_state import CacheState
from mlstack.version.objects import Objects

TICK_S = 0.011  # of Linux with a slow timer, and a little


def holds(path: Path, version: str, store: Objects) -> bool:
    """Tell whether a version that was noted is sure to be whole still; False says nothing.

    Args:
        path: where it was noted.
        version: the version's MD5.
        store: the cache.
    """
    try:
        noted = base.read(path, CacheState)
    except DataError:
        return False
    if (noted.md5, noted.home) != (version, str(store.home)):
        return False
    try:
        return _times(store, list(noted.folders)) == noted.folders
    except OSError:
        return False


def note(path: Path, version: str, store: Objects) -> None:
    """Note that every object of a version is in the cache.

    What is taken away within the same tick of the file system's clock would leave no trace: that
    is waited for, and where it is a long one nothing is noted.
    """
    time.sleep(TICK_S)
    with suppress(OSError):  # a cache that may only be read has no clock
        os.utime(store.home)  # by the clock that stamps its folders
        now = store.home.stat().st_mtime_ns
        folders = _times(store, [path.name for path in store.home.iterdir() if path.is_dir()])
        if folders and max(folders.values()) < now:
            base.write(path, CacheState(md5=version, home=str(store.home), folders=folders))


def _times(store: Objects, folders: list[str]) -> dict[str, int]:
    return {name: (store.home / name).stat().st_mtime_ns for name in folders}
