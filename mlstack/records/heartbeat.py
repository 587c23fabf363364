"""`heartbeat-N`: where a rank is, and how long it may stay there; 48 bytes that it overwrites.

Little-endian: `MLHB`, version (uint32), beats (uint64), place (uint64), activity (uint8 and seven
zero bytes), idle_s and busy_s (float64). The rank writes through a memory map, which costs less
than a microsecond, so it can do so several times a step; what it wrote outlives its death.
"""

import mmap
import struct
import time
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

_FORM = struct.Struct("<4sIQQB7xdd")
MAGIC, VERSION = b"MLHB", 1
FAR_EVERY_S = 1.0
FAR_LEAST_S = 180.0  # of silence: a shared file system shows others what it saw a minute ago


class Activity(IntEnum):
    """What a rank is about to do, or does."""

    PREPARING = 0
    LOADING = 1  # waits for the next batch; hooks after a step, too
    FORWARD = 2
    BACKWARD = 3
    UPDATING = 4
    JUDGING = 5  # validation and test
    SAVING = 6


_OFTEN = (Activity.LOADING, Activity.FORWARD, Activity.BACKWARD, Activity.UPDATING)


class Beat(NamedTuple):
    """One look at a heart."""

    beats: int
    place: int  # grows as the run goes on; ranks that are together have the same
    activity: Activity
    idle_s: float  # how long the next beat may take when the rank does nothing
    busy_s: float  # and when it computes


class Heart:
    """The heartbeat of this process.

    Args:
        path: the file.
        far: it is read on another machine, through a file system that both share: what is written
            through a memory map may never get there, so the file is written anew, once a second.
    """

    def __init__(self, path: Path, *, far: bool = False) -> None:
        # In blocks of its own: a map must not find the disk full.
        path.write_bytes(bytes(_FORM.size))
        self._path = path
        self._map: mmap.mmap | None = None
        if not far:
            with path.open("r+b") as stream:
                self._map = mmap.mmap(stream.fileno(), _FORM.size)
        self._beats = 0
        self._written = 0.0

    def beat(self, place: int, activity: Activity, idle_s: float, busy_s: float) -> None:
        """Show that this process moves, and for how long it may now be silent, in seconds."""
        self._beats += 1
        beat = MAGIC, VERSION, self._beats, place, activity, idle_s, busy_s
        if self._map is not None:
            _FORM.pack_into(self._map, 0, *beat)
            return
        now = time.monotonic()
        if now - self._written >= FAR_EVERY_S or activity not in _OFTEN:
            self._written = now
            idle_s, busy_s = max(idle_s, FAR_LEAST_S), max(busy_s, FAR_LEAST_S)
            self._path.write_bytes(_FORM.pack(*beat[:5], idle_s, busy_s))


def read_beat(path: Path) -> Beat | None:
    """Give the last beat; None before the first one."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(content) != _FORM.size or not content.startswith(MAGIC):
        return None
    _, _, beats, place, activity, idle_s, busy_s = _FORM.unpack(content)
    return Beat(beats, place, Activity(activity), idle_s, busy_s)
