"""Who has which GPU, and who waits for one: two tables of SQLite, no daemon.

A lease belongs to a process (pid and start time) and is void when that is gone. Whoever waits has a
number, and nobody is served before an earlier one who would take one of the same GPUs. Where
several machines or containers share a home, a process cannot be looked up from the other: its
heartbeat says that it lives. A clock may be set at any time, so start times count from the boot.
"""

import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from mlstack import shell
from mlstack.errors import BusyError, MachineError, MlstackError
from mlstack.launch.gpus import Gpu, Machine, Nvidia, Wanted, candidates

BEAT_S = 30.0
STALE_S = 180.0  # without a heartbeat, of a process that cannot be looked up
LOOK_S = 2.0  # between two looks of whoever waits
BUSY_S = 10.0  # for the tables themselves
BOOT = Path("/proc/sys/kernel/random/boot_id")
ELSEWHERE = "set XDG_STATE_HOME to a folder that can be written"
SCHEMA = """
CREATE TABLE IF NOT EXISTS gpu_leases (
    uuid TEXT PRIMARY KEY,
    pid INTEGER NOT NULL,
    started REAL NOT NULL,         -- start time of that process: pids are used again
    place TEXT NOT NULL,           -- where, and since which boot, that pid means something
    what TEXT NOT NULL,
    since REAL NOT NULL,
    heartbeat REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS gpu_queue (
    ticket INTEGER PRIMARY KEY AUTOINCREMENT,
    pid INTEGER NOT NULL,
    started REAL NOT NULL,
    place TEXT NOT NULL,
    what TEXT NOT NULL,
    uuids TEXT NOT NULL,           -- JSON list of the GPUs that would do
    heartbeat REAL NOT NULL
);
"""


@dataclass(frozen=True)
class Holder:
    """Who has a GPU."""

    uuid: str
    what: str
    pid: int
    since: float

    def __str__(self) -> str:
        return f"{self.what} (process {self.pid})"


@dataclass(frozen=True)
class Waiter:
    """Who waits for GPUs, and for which of them."""

    ticket: int
    what: str
    pid: int
    uuids: frozenset[str]

    def __str__(self) -> str:
        return f"{self.what} (process {self.pid})"


@dataclass(frozen=True)
class Blocked:
    """Why GPUs cannot be had now."""

    free: int
    count: int  # of GPUs that would do
    users: tuple[str, ...]
    ahead: tuple[str, ...]  # who is served first


def leases_file() -> Path:
    """Give the file of the leases, one for each person on this machine.

    Raises:
        MachineError: nobody knows where this person is at home.
    """
    state = os.environ.get("XDG_STATE_HOME")
    try:
        return Path(state or Path.home() / ".local" / "state") / "mlstack" / "gpus.db"
    except RuntimeError as error:
        raise MachineError(
            "GPU leases are kept in your home, and there is none", hint=ELSEWHERE
        ) from error


@contextmanager
def claim(
    wanted: Wanted,
    what: str,
    *,
    least: int = 1,
    machine: Machine | None = None,
    table: Path | None = None,
) -> Iterator["Claim"]:
    """Ask for GPUs; whatever was taken, or waited for, is given back after the block.

    Args:
        wanted: a number, a list of indices, or `auto`: all that are there, none without any.
        what: what they are for, told to others that want them.
        least: how many of `auto` are worth beginning with, where so many are there.
        machine: where GPUs are found; this machine when None.
        table: file of the leases; that of this person when None.

    Raises:
        MachineError: this machine has fewer GPUs than are wanted.
    """
    machine = machine or Nvidia()
    fitting = [] if wanted in (0, []) else candidates(wanted, machine)
    enough = wanted if isinstance(wanted, int) else len(fitting)
    if wanted == "auto":
        enough = min(least, len(fitting))
    wish = Wish(fitting, enough, takes_all=wanted == "auto")
    claimed = Claim(wish, what, machine, table)
    try:
        yield claimed
    finally:
        claimed.close()


@dataclass(frozen=True)
class Wish:
    """GPUs that would do, and how many of them."""

    fitting: list[Gpu]
    least: int
    takes_all: bool  # that are free, not only as many as are needed


class Claim:
    """A wish for GPUs: in the queue while it waits, a lease once it has them."""

    def __init__(self, wish: Wish, what: str, machine: Machine, table: Path | None) -> None:
        self.taken: list[Gpu] = []
        self._wish = wish
        self._what, self._machine, self._table = what, machine, table
        self._ticket: int | None = None
        self._over = threading.Event()
        self._beating: threading.Thread | None = None

    def take(self, otherwise: str = "") -> list[Gpu]:
        """Take the GPUs now, or give those that were taken already.

        Args:
            otherwise: what to type to do without them, told to whoever is refused.

        Raises:
            BusyError: others use so many that too few are left, or wait for them already.
        """
        blocked = None if self.taken else self._try()
        if blocked is None:
            return self.taken
        waiting = f"; {len(blocked.ahead)} waiting before this" if blocked.ahead else ""
        raise BusyError(
            f"{blocked.free} of {blocked.count} GPUs are free; used by "
            f"{'; '.join(blocked.users) or 'nobody'}{waiting}",
            hint="; ".join(filter(None, ("--wait waits for them in order", otherwise))),
        )

    def wait(self, look_s: float = LOOK_S) -> Iterator[Blocked]:
        """Wait in order until the GPUs are taken; say each time why they are not."""
        while (blocked := self._try()) is not None:
            if self._ticket is None:
                self._queue()
            yield blocked
            time.sleep(look_s)

    def close(self) -> None:
        """Give the GPUs back, and leave the queue.

        What cannot be written now, for the disk is full, say, is void when this process is gone.
        """
        self._over.set()
        if self._beating:
            self._beating.join()
        if not self.taken and self._ticket is None:
            return
        with suppress(MlstackError), _opened(self._table) as tables:
            tables.executemany(
                "DELETE FROM gpu_leases WHERE uuid = ? AND pid = ? AND place = ?",
                [(gpu.uuid, os.getpid(), _place()) for gpu in self.taken],
            )
            tables.execute("DELETE FROM gpu_queue WHERE ticket IS ?", (self._ticket,))
        self.taken, self._ticket = [], None

    def _try(self) -> Blocked | None:
        """Take the GPUs, or say why not."""
        if not self._wish.fitting:
            return None
        foreign = {use.uuid: str(use) for use in self._machine.uses() if use.is_in_the_way}
        with _opened(self._table) as tables:
            held = {row.uuid: str(row) for row in _holders(tables)}
            users = foreign | held
            free = [gpu for gpu in self._wish.fitting if gpu.uuid not in users]
            ahead = self._ahead(tables)
            if len(free) < self._wish.least or ahead:
                told = sorted({users[g.uuid] for g in self._wish.fitting if g.uuid in users})
                now = time.time()  # told now and then: each time is a write to the disk
                tables.execute(
                    "UPDATE gpu_queue SET heartbeat = ? WHERE ticket IS ? AND heartbeat < ?",
                    (now, self._ticket, now - BEAT_S),
                )
                return Blocked(len(free), len(self._wish.fitting), tuple(told), ahead)
            self.taken = free if self._wish.takes_all else free[: self._wish.least]
            mine = (*_identity(), self._what, time.time(), time.time())
            tables.executemany(
                "INSERT INTO gpu_leases VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(gpu.uuid, *mine) for gpu in self.taken],
            )
            tables.execute("DELETE FROM gpu_queue WHERE ticket IS ?", (self._ticket,))
        self._ticket = None
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._beating.start()
        return None

    def _ahead(self, tables: sqlite3.Connection) -> tuple[str, ...]:
        """Name who came before and would take one of the same GPUs."""
        mine = {gpu.uuid for gpu in self._wish.fitting}
        return tuple(
            str(waiter)
            for waiter in _waiters(tables)
            if (self._ticket is None or waiter.ticket < self._ticket) and waiter.uuids & mine
        )

    def _queue(self) -> None:
        uuids = json.dumps([gpu.uuid for gpu in self._wish.fitting])
        with _opened(self._table) as tables:
            mine = (*_identity(), self._what, uuids, time.time())
            added = tables.execute("INSERT INTO gpu_queue VALUES (NULL, ?, ?, ?, ?, ?, ?)", mine)
            self._ticket = added.lastrowid

    def _beat(self) -> None:
        """Show those who cannot look this process up that it lives."""
        while not self._over.wait(BEAT_S):
            beat = (time.time(), os.getpid(), _place())
            with suppress(MlstackError), _opened(self._table) as tables:
                tables.execute(
                    "UPDATE gpu_leases SET heartbeat = ? WHERE pid = ? AND place = ?", beat
                )


def overview(table: Path | None = None) -> tuple[list[Holder], list[Waiter]]:
    """List who holds GPUs and who waits, in order.

    Raises:
        MachineError: the tables are damaged, or cannot be written.
        BusyError: others write in them all the time.
    """
    path = table or leases_file()
    if not os.path.exists(path):  # noqa: PTH110  that of pathlib raises where it may not look
        return [], []
    with _opened(path) as tables:
        return _holders(tables), _waiters(tables)


def _holders(tables: sqlite3.Connection) -> list[Holder]:
    """List who has GPUs; forget those that died."""
    _bury(tables, "gpu_leases")
    rows = tables.execute("SELECT uuid, what, pid, since FROM gpu_leases ORDER BY since").fetchall()
    return [Holder(*row) for row in rows]


def _waiters(tables: sqlite3.Connection) -> list[Waiter]:
    """List who waits, the first one first; forget those that died."""
    _bury(tables, "gpu_queue")
    rows = tables.execute("SELECT ticket, what, pid, uuids FROM gpu_queue ORDER BY ticket")
    return [
        Waiter(ticket, what, pid, frozenset(json.loads(uuids)))
        for ticket, what, pid, uuids in rows.fetchall()
    ]


def _bury(tables: sqlite3.Connection, name: str) -> None:
    rows = tables.execute(f"SELECT rowid, pid, started, place, heartbeat FROM {name}").fetchall()
    dead = [(row[0],) for row in rows if not _lives(*row[1:])]
    tables.executemany(f"DELETE FROM {name} WHERE rowid = ?", dead)


def _lives(pid: int, started: float, place: str, heartbeat: float) -> bool:
    if place != _place():
        here, now = f"{socket.gethostname()} ", time.time()
        is_of_last_boot = place.startswith(here) and heartbeat < psutil.boot_time()
        return abs(now - heartbeat) < STALE_S and not is_of_last_boot
    try:
        is_dead = psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # nobody asked how it ended
        return not is_dead and abs(_started(pid) - started) < 1
    except (psutil.Error, OSError):
        return False


def _identity() -> tuple[int, float, str]:
    return os.getpid(), _started(os.getpid()), _place()


def _started(pid: int) -> float:
    """Give when a process started: on Linux in ticks since the boot, see proc(5).

    Seconds since 1970, which psutil makes of them, are others once somebody has set the clock.
    """
    if psutil.LINUX:
        return float(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    return float(psutil.Process(pid).create_time())


def _place() -> str:
    """Name the machine and, on Linux, the container and the boot: what a pid belongs to."""
    namespace = Path("/proc/self/ns/pid")
    with suppress(OSError):
        return f"{socket.gethostname()} {namespace.readlink()} {BOOT.read_text().strip()}"
    return socket.gethostname()


@contextmanager
def _opened(table: Path | None) -> Iterator[sqlite3.Connection]:
    """Open the tables for one transaction that nobody else writes in.

    Raises:
        MachineError: they are damaged, or cannot be written.
        BusyError: others write in them all the time.
    """
    table = table or leases_file()
    try:
        table.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(table, timeout=BUSY_S, isolation_level=None)) as tables:
            tables.executescript(SCHEMA)
            tables.execute("BEGIN IMMEDIATE")
            with tables:
                yield tables
    except OSError as error:
        raise MachineError(
            f"GPU leases cannot be kept in `{table}`: {error.strerror}", hint=ELSEWHERE
        ) from error
    except sqlite3.Error as error:
        raise _refusal(table, error) from error


def _refusal(table: Path, error: sqlite3.Error) -> MlstackError:
    """Say what is to be done about tables that do not open."""
    what = f"GPU leases are kept in `{table}`: {error}"
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY:
            return BusyError(what, hint="try again")
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return MachineError(what, hint=f"rm {shell.path(table)} when nobody trains")
        case sqlite3.SQLITE_FULL:
            return MachineError(what, hint="free some space")
    return MachineError(what, hint=ELSEWHERE)
