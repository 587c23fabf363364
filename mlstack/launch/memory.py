"""The memory that this process may use: the machine's, or what a container or job is limited to.

Control groups of Linux, version 1 and 2 (Documentation/admin-guide/cgroup-v1/memory.rst and
cgroup-v2.rst in the kernel); a limit of a group holds for all that are below it.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

OWN = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
SECOND = ("memory.max", "memory.current", "inactive_file")


@dataclass(frozen=True)
class Memory:
    """What there is and what of it is free, in bytes."""

    total: int
    free: int
    is_limited: bool = False


def memory(own: Path = OWN, groups: Path = GROUPS) -> Memory:
    """Look at the memory that this process may use."""
    state = psutil.virtual_memory()
    found = Memory(state.total, state.available)
    for folder, (limit, usage, cache) in _groups(own, groups):
        most = _number(folder / limit)
        if most is None or most >= state.total:
            continue
        # What is kept of files is given back before anybody is killed for want of memory.
        used = (_number(folder / usage) or 0) - _statistic(folder, cache)
        free = min(found.free, max(0, most - used))
        found = Memory(min(found.total, most), free, is_limited=True)
    return found


def _groups(own: Path, groups: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """List the groups that this process is in, the outer ones too, as far as they can be seen."""
    with suppress(OSError):
        for line in own.read_text().splitlines():
            number, controllers, name = line.split(":", 2)
            if number != "0" and "memory" not in controllers.split(","):
                continue
            base, names = (groups, SECOND) if number == "0" else (groups / "memory", FIRST)
            path = PurePosixPath(name.lstrip("/"))
            for part in (path, *path.parents):
                yield base / part, names


def _number(path: Path) -> int | None:
    with suppress(OSError, ValueError):  # `max`, or a group that cannot be seen from here
        return int(path.read_text())
    return None


def _statistic(folder: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            if line.startswith(f"{name} "):
                return int(line.split()[1])
    return 0
