"""The processes of a run: started with torchelastic's environment, ended without a trace."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mlstack.launch import forked, tether
from mlstack.launch.forked import ForkedRank, ForkServer
from mlstack.launch.forkserver import Order
from mlstack.records.run import RunSpec

POLL_S = 0.05
VMSTAT = Path("/proc/vmstat")
FORKSERVER_LOG = "forkserver.log"


@dataclass(frozen=True)
class Program:
    """What every rank runs."""

    module: str  # as in `python -m MODULE`
    preload: str | None = None  # imported once for ranks that may be forked


@dataclass(frozen=True)
class Command:
    """What every rank runs, and on which GPUs of this machine."""

    program: Program
    arguments: list[str]
    spec: RunSpec
    run_folder: Path
    gpus: tuple[int, ...] = ()


class Rank(Protocol):
    """One training process, wherever it runs, as the supervisor sees it."""

    @property
    def number(self) -> int:
        """Which one of the run, from 0."""

    @property
    def log(self) -> Path:
        """File that holds what it printed."""

    @property
    def code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""

    @property
    def pid(self) -> int:
        """Number of its process on this machine; 0 for one elsewhere."""

    def ask_where(self) -> None:
        """Have it write to its log what it is doing, where it can be reached."""

    @property
    def met_oom_killer(self) -> bool:
        """Whether its kernel has killed for want of memory since it was started."""

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL, and wait until it is gone."""

    @property
    def is_lost(self) -> bool:
        """Whether it died with the process that started it."""

    def last_words(self, lines: int = 20) -> str:
        """Give the end of what it printed."""


@dataclass
class LocalRank:
    """A training process of this machine; it leads a session of its own."""

    number: int
    process: "subprocess.Popen[bytes] | ForkedRank"
    log: Path
    kills_before: int = field(default_factory=lambda: oom_kills())

    @property
    def code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self.process.poll()

    @property
    def pid(self) -> int:
        """Number of the process; before a rank is forked, that of the process that will do it."""
        return self.process.pid

    @property
    def met_oom_killer(self) -> bool:
        """Tell whether the kernel has killed for want of memory since the rank was started."""
        return oom_kills() > self.kills_before

    @property
    def is_lost(self) -> bool:
        """Tell whether it died because the process that forks the ranks did."""
        return isinstance(self.process, ForkedRank) and self.process.is_lost

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the rank, not to what it started."""
        if self.code is None:
            self.process.terminate()

    def ask_where(self) -> None:
        """Have the rank write to its log what it is doing."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR2)

    def kill(self) -> None:
        """Kill the rank and everything in its session's group."""
        if isinstance(self.process, ForkedRank):
            self.process.kill()
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def last_words(self, lines: int = 20) -> str:
        """Give the end of what the rank printed; of one that was lost, what the server did."""
        log = self.log.with_name(FORKSERVER_LOG) if self.is_lost else self.log
        return last_lines(log, lines)


@contextmanager
def started(command: Command) -> Iterator[list[Rank]]:
    """Run the ranks here for a block; none is left after it, however the block ends.

    Several ranks on the CPU are forked from one process that has imported their libraries. One
    rank would gain nothing; and no rank on a GPU is forked, because nothing of CUDA survives it.
    """
    preload = command.program.preload
    if preload and command.spec.ranks > 1 and not command.gpus and forked.can_fork():
        with _forked(command, preload) as forks:
            yield forks
        return
    ranks: list[Rank] = []
    port = _free_port()
    try:
        ranks.extend(_start(command, number, port) for number in range(command.spec.ranks))
        yield ranks
    finally:
        end(ranks, grace_s=0)


@contextmanager
def _forked(command: Command, preload: str) -> Iterator[list[Rank]]:
    numbers = range(command.spec.ranks)
    logs = [log_file(command.run_folder, number) for number in numbers]
    logs[0].parent.mkdir(parents=True, exist_ok=True)
    order = Order(preload, command.program.module, command.arguments, [str(log) for log in logs])
    server = ForkServer(
        order,
        command.spec.root,
        environment(command, 0, _free_port()),
        logs[0].with_name(FORKSERVER_LOG),
    )
    ranks: list[Rank] = [
        LocalRank(number, ForkedRank(server, number), logs[number]) for number in numbers
    ]
    try:
        yield ranks
    finally:
        end(ranks, grace_s=0)
        server.close()


def oom_kills(counters: Path = VMSTAT) -> int:
    """Count what the kernel has killed for want of memory since it booted; 0 if it does not say."""
    with suppress(OSError):
        for line in counters.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def end(ranks: list[Rank], *, grace_s: float) -> None:
    """Ask the ranks to stop, wait for at most `grace_s`, then kill what is left."""
    if grace_s:
        for rank in ranks:
            rank.ask_to_stop()
        wait(ranks, grace_s)
    for rank in ranks:
        rank.kill()


def wait(ranks: list[Rank], limit_s: float) -> None:
    """Wait until all ranks have ended, for at most `limit_s`."""
    deadline = time.monotonic() + limit_s
    while any(r.code is None for r in ranks) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def last_lines(log: Path, lines: int = 20) -> str:
    """Give the end of a text file; nothing when there is none."""
    with suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return ""


def log_file(run_folder: Path, rank: int) -> Path:
    """Give the file that holds what a rank printed."""
    return run_folder / "logs" / f"rank-{rank}.log"


@dataclass(frozen=True)
class Standing:
    """Which rank a process is, of how many; on its machine, and which machine that is."""

    number: int
    count: int
    local_number: int
    local_count: int
    group: int = 0


def contract(run: str, standing: Standing) -> dict[str, str]:
    """Give what torchelastic tells a rank in its environment, but for where they meet."""
    number, count = str(standing.number), str(standing.count)
    return {
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "RANK": number,
        "ROLE_RANK": number,
        "LOCAL_RANK": str(standing.local_number),
        "GROUP_RANK": str(standing.group),
        "WORLD_SIZE": count,
        "ROLE_WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": str(standing.local_count),
        "GROUP_WORLD_SIZE": str(standing.count // standing.local_count),
        "TORCHELASTIC_RUN_ID": run,
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
    }


def environment(command: Command, rank: int, port: int) -> dict[str, str]:
    """Give what a rank finds in its environment: torchelastic's contract, for one rank too."""
    size = command.spec.ranks
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    left_out = {"TORCHELASTIC_USE_AGENT_STORE"}
    if not os.environ.get("OMP_NUM_THREADS"):
        left_out.add("OMP_NUM_THREADS")  # set to nothing
    given = {k: v for k, v in os.environ.items() if k not in left_out}
    return {
        "OMP_NUM_THREADS": str(max(1, (cores or 1) // size)),
        "OMP_WAIT_POLICY": "PASSIVE",  # others use the machine too; read when torch is loaded
        **given,
        **contract(command.spec.id, Standing(rank, size, rank, size)),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # the order of nvidia-smi, hence of our indices
        "CUDA_VISIBLE_DEVICES": ",".join(str(index) for index in command.gpus),
    }


def _start(command: Command, number: int, port: int) -> LocalRank:
    log = log_file(command.run_folder, number)
    log.parent.mkdir(parents=True, exist_ok=True)
    worker = [sys.executable, "-m", command.program.module, *command.arguments]
    with log.open("ab") as stream:
        process = subprocess.Popen(
            tether.tied(signal.SIGKILL, worker),
            cwd=command.spec.root,
            env=environment(command, number, port),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    return LocalRank(number, process, log)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
