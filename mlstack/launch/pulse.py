"""The heartbeats of a run's ranks, and which of them does not move any more.

A rank itself says how long it may be silent (`records/heartbeat.py`); it knows whether a step or a
checkpoint comes next. Here is what only somebody outside can tell: that a rank computes all the
while, that others merely wait for it, or that the whole machine stood still.
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from mlstack.records.heartbeat import Activity, Beat, read_beat

LOOK_S = 1.0  # between two looks; what is more, the machine stood still and nobody was silent
PROBE_S = 1.0  # of silence, before it is measured whether the rank computes
BUSY_SHARE = 0.3  # of one core


@dataclass(frozen=True)
class Hang:
    """A rank that has not moved for too long."""

    rank: int
    silent_s: float
    activity: Activity


@dataclass
class _Watched:
    """What is known of one rank."""

    beat: Beat | None = None
    silent_s: float = 0.0
    probed: tuple[float, float] | None = None  # silence so far and CPU seconds, when first measured

    @property
    def place(self) -> int:
        return self.beat.place if self.beat else -1


def cpu_seconds(pid: int) -> float:
    """Give what a process has used of the processors, and what it was ready to use and did not get.

    On a machine with far more work than cores a rank gets a few per cent of one, and hangs no more
    than the others. Endless for one that waits for the disk, and for one on another machine (0):
    nobody knows.
    """
    if not pid:
        return math.inf
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_DISK_SLEEP:
            return math.inf
        used = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(used.user + used.system) + _waited_s(pid)


def _waited_s(pid: int) -> float:
    """Add up how long its threads stood in line for a core; 0 where the kernel does not say."""
    total_ns = 0
    for statistics in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError, ValueError, IndexError):  # a thread that has just ended
            total_ns += int(statistics.read_text().split()[1])
    return total_ns / 1e9


class Pulse:
    """Listens to the ranks of one attempt."""

    def __init__(
        self,
        run_folder: Path,
        ranks: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        usage: Callable[[int], float] = cpu_seconds,
    ) -> None:
        self._files = [run_folder / f"heartbeat-{number}" for number in range(ranks)]
        for file in self._files:
            file.unlink(missing_ok=True)
        self._ranks = [_Watched() for _ in range(ranks)]
        self._clock, self._usage = clock, usage
        self._looked = clock()

    def hang(self, running: Mapping[int, int], start_s: float, hang_s: float) -> Hang | None:
        """Name the rank that hangs, if one does.

        The others soon wait for it, so only those that are furthest behind are asked, and none
        of them may have time left.

        Args:
            running: pid of each rank that has not ended.
            start_s: how long the first heartbeat may take.
            hang_s: what no rank may ask for more than.
        """
        self._look(running)
        behind = min((self._ranks[number].place for number in running), default=0)
        last = [number for number in running if self._ranks[number].place == behind]
        if not last or not all(self._is_late(n, running[n], start_s, hang_s) for n in last):
            return None
        first = max(last, key=lambda number: self._ranks[number].silent_s)
        beat = self._ranks[first].beat
        activity = beat.activity if beat else Activity.PREPARING
        return Hang(first, self._ranks[first].silent_s, activity)

    def _look(self, running: Mapping[int, int]) -> None:
        now = self._clock()
        passed, self._looked = min(now - self._looked, LOOK_S), now
        for number in running:
            watched, beat = self._ranks[number], read_beat(self._files[number])
            if beat is not None and (watched.beat is None or beat.beats != watched.beat.beats):
                self._ranks[number] = _Watched(beat)
            else:
                watched.silent_s += passed

    def _is_late(self, number: int, pid: int, start_s: float, hang_s: float) -> bool:
        watched = self._ranks[number]
        if watched.beat is None:
            return watched.silent_s > start_s
        if watched.silent_s > PROBE_S and watched.probed is None:
            watched.probed = (watched.silent_s, self._usage(pid))
        if watched.silent_s <= min(watched.beat.idle_s, hang_s):
            return False
        is_busy = watched.probed is not None and self._is_busy(watched, pid)
        return not is_busy or watched.silent_s > min(watched.beat.busy_s, hang_s)

    def _is_busy(self, watched: _Watched, pid: int) -> bool:
        assert watched.probed is not None
        since_s, used_s = watched.probed
        now_s = self._usage(pid)
        if not math.isfinite(now_s) or not math.isfinite(used_s):
            return True
        return now_s - used_s > BUSY_SHARE * (watched.silent_s - since_s)
