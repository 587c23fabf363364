"""`heartbeat-N`: where a rank is, and how long it may stay there; 48 bytes that it overwrites.

Little-endian: `MLHB`, version (uint32), beats (uint64), place (uint64), activity (uint8 and seven
zero bytes), idle_s and busy_s (float64). The rank writes through a memory map, which costs less
than a microsecond, so it can do so several times a step; what it wrote outlives its death.
"""

import mmap
import struct
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

_FORM = struct.Struct("<4sIQQB7xdd")
MAGIC, VERSION = b"MLHB", 1


class Activity(IntEnum):
    """What a rank is about to do, or does."""

    PREPARING = 0
    LOADING = 1  # waits for the next batch; hooks after a step, too
    FORWARD = 2
    BACKWARD = 3
    UPDATING = 4
    JUDGING = 5  # validation and test
    SAVING = 6


class Beat(NamedTuple):
    """One look at a heart."""

    beats: int
    place: int  # grows as the run goes on; ranks that are together have the same
    activity: Activity
    idle_s: float  # how long the next beat may take when the rank does nothing
    busy_s: float  # and when it computes


class Heart:
    """The heartbeat of this process."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(
            bytes(_FORM.size)
        )  # in blocks of its own: a map must not find the disk full
        with path.open("r+b") as stream:
            self._map = mmap.mmap(stream.fileno(), _FORM.size)
        self._beats = 0

    def beat(self, place: int, activity: Activity, idle_s: float, busy_s: float) -> None:
        """Show that this process moves, and for how long it may now be silent, in seconds."""
        self._beats += 1
        _FORM.pack_into(self._map, 0, MAGIC, VERSION, self._beats, place, activity, idle_s, busy_s)


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
