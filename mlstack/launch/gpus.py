"""The GPUs of this machine, and who uses them: one SQLite table of leases, no daemon."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal, Protocol

import psutil

from mlstack.errors import BusyError, MachineError

Wanted = Literal["auto"] | int | list[int]

QUERY = "index,uuid,name,memory.total"
SCHEMA = """
CREATE TABLE IF NOT EXISTS leases (
    uuid TEXT PRIMARY KEY,
    pid INTEGER NOT NULL,
    started REAL NOT NULL,         -- start time of that process: pids are used again
    what TEXT NOT NULL
)
"""


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU; `index` is that of nvidia-smi."""

    index: int
    uuid: str
    name: str
    memory_mib: int = 0


class Machine(Protocol):
    """Where GPUs are found."""

    def find(self) -> list[Gpu]:
        """List the GPUs that may be used."""

    def lack(self) -> str:
        """Say what is missing when none is found."""


class Nvidia:
    """The GPUs that the driver shows, torch can use and CUDA_VISIBLE_DEVICES allows."""

    def find(self) -> list[Gpu]:
        """List the GPUs; none without a driver, or when torch is a build for the CPU."""
        if shutil.which("nvidia-smi") is None or _torch_for_cpu():
            return []
        try:
            asked = subprocess.run(
                ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return []
        found = parse(asked.stdout) if asked.returncode == 0 else []
        return visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))

    def lack(self) -> str:
        """Say what is missing when none is found."""
        if shutil.which("nvidia-smi") is None:
            return "the NVIDIA driver is not installed (there is no `nvidia-smi`)"
        if build := _torch_for_cpu():
            return f"torch {build} is a build for the CPU; install the one for CUDA"
        if os.environ.get("CUDA_VISIBLE_DEVICES") is not None:
            return "CUDA_VISIBLE_DEVICES hides them, or `nvidia-smi` lists none"
        return "`nvidia-smi` lists none; is the driver running?"


class FakeGpus:
    """A machine with these GPUs, for tests."""

    def __init__(self, *names: str) -> None:
        self._gpus = [Gpu(i, f"GPU-{i}", name) for i, name in enumerate(names)]

    def find(self) -> list[Gpu]:
        """List the GPUs."""
        return self._gpus

    def lack(self) -> str:
        """Say what is missing when none is found."""
        return "this is a fake"


def _torch_for_cpu() -> str:
    try:
        build = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""
    return build if build.endswith("+cpu") else ""


def parse(listing: str) -> list[Gpu]:
    """Read what `nvidia-smi --query-gpu` printed."""
    rows = [line.split(", ") for line in listing.splitlines() if line.count(", ") >= 3]
    return [
        Gpu(int(index), uuid, name, int(memory) if memory.strip().isdigit() else 0)
        for index, uuid, name, memory in (row[:4] for row in rows)
        if index.strip().isdigit()
    ]


def visible(gpus: list[Gpu], setting: str | None) -> list[Gpu]:
    """Keep the GPUs that CUDA_VISIBLE_DEVICES names by index or uuid; all without it."""
    if setting is None:
        return gpus
    names = [name.strip() for name in setting.split(",")]
    return [g for g in gpus if str(g.index) in names or any(n and g.uuid == n for n in names)]


def leases_file() -> Path:
    """Give the table of leases, one for each person on this machine."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "mlstack" / "gpus.db"


@contextmanager
def lease(
    wanted: Wanted, what: str, *, machine: Machine | None = None, table: Path | None = None
) -> Iterator[list[Gpu]]:
    """Hold GPUs for a block; a lease of a process that died counts for nothing.

    Args:
        wanted: a number, a list of indices, or `auto`: all that are there, none without any.
        what: what they are for, told to others that want them.
        machine: where GPUs are found; this machine when None.
        table: file of the leases; that of this person when None.

    Raises:
        MachineError: this machine has fewer GPUs than are wanted.
        BusyError: others use so many that too few are left.
    """
    if wanted in (0, []):
        yield []
        return
    machine = machine or Nvidia()
    candidates = _candidates(wanted, machine)
    if not candidates:
        yield []
        return
    table = table or leases_file()
    taken = _take(candidates, wanted, what, table)
    try:
        yield taken
    finally:
        with closing(_open(table)) as leases, leases:
            leases.executemany(
                "DELETE FROM leases WHERE uuid = ? AND pid = ?",
                [(gpu.uuid, os.getpid()) for gpu in taken],
            )


def _candidates(wanted: Wanted, machine: Machine) -> list[Gpu]:
    """List the GPUs that would do, whoever uses them."""
    found = machine.find()
    if isinstance(wanted, list):
        missing = [i for i in wanted if i not in [g.index for g in found]]
        if missing:
            raise _too_few(f"GPU {', '.join(map(str, missing))} was asked for", found, machine)
        return [g for g in found if g.index in wanted]
    if isinstance(wanted, int) and wanted > len(found):
        asked = f"{wanted} GPU{'s were' if wanted > 1 else ' was'} asked for"
        raise _too_few(asked, found, machine)
    return found


def _too_few(asked: str, found: list[Gpu], machine: Machine) -> MachineError:
    if not found:
        return MachineError(
            f"{asked} and none can be used: {machine.lack()}",
            hint="train on the CPU with --gpus 0, or type `mlstack doctor`",
        )
    names = ", ".join(f"{g.index}: {g.name}" for g in found)
    return MachineError(f"{asked} and this machine has {len(found)} ({names})", hint="ask for less")


def _take(candidates: list[Gpu], wanted: Wanted, what: str, table: Path) -> list[Gpu]:
    count = wanted if isinstance(wanted, int) else len(candidates)
    with closing(_open(table)) as leases:
        leases.execute("BEGIN IMMEDIATE")
        with leases:
            held = _held(leases)
            free = [g for g in candidates if g.uuid not in held]
            enough = free if wanted == "auto" else free[:count]
            if not enough or (wanted != "auto" and len(enough) < count):
                users = sorted({held[g.uuid] for g in candidates if g.uuid in held})
                raise BusyError(
                    f"{len(free)} of {len(candidates)} GPUs are free; used by {'; '.join(users)}",
                    hint="wait for it to end, or train on the CPU with --gpus 0",
                )
            started = psutil.Process().create_time()
            leases.executemany(
                "INSERT INTO leases VALUES (?, ?, ?, ?)",
                [(gpu.uuid, os.getpid(), started, what) for gpu in enough],
            )
    return enough


def _held(leases: sqlite3.Connection) -> dict[str, str]:
    """Give who holds which GPU; forget those that died."""
    held: dict[str, str] = {}
    for uuid, pid, started, what in leases.execute("SELECT * FROM leases").fetchall():
        if _lives(pid, started):
            held[uuid] = f"{what} (process {pid})"
        else:
            leases.execute("DELETE FROM leases WHERE uuid = ?", (uuid,))
    return held


def _lives(pid: int, started: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - started) < 1
    except psutil.Error:
        return False


def _open(table: Path) -> sqlite3.Connection:
    table.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(table, timeout=10, isolation_level=None)
    connection.execute(SCHEMA)
    return connection
