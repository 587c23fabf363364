"""The supervisor's side of ranks that a server forks: it cannot wait for them, so it is told."""

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from mlstack.launch import tether
from mlstack.launch.forkserver import Order, Report

SERVER = "mlstack.launch.forkserver"
REPORT_S = 5.0  # from a rank's death to the report of it
POLL_S = 0.02


def can_fork() -> bool:
    """Tell whether this system can fork ranks and watch them: Linux from 5.3."""
    return sys.platform.startswith("linux") and hasattr(os, "pidfd_open")


class ForkServer:
    """The process that imports once and forks the ranks; alive until `close`."""

    def __init__(self, order: Order, folder: str, environment: dict[str, str], log: Path) -> None:
        worker = [sys.executable, "-m", SERVER, msgspec.json.encode(order).decode()]
        self.log = log
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                tether.tied(signal.SIGKILL, worker),
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        self._reports = self._process.stdout.fileno()
        os.set_blocking(self._reports, False)
        self._half = b""
        self.pids: dict[int, int] = {}
        self.codes: dict[int, int] = {}

    @property
    def pid(self) -> int:
        """Give the server's own process."""
        return self._process.pid

    def look(self) -> int | None:
        """Take in what was reported; give the server's exit code, None while it runs."""
        ended = self._process.poll()  # first: of a dead one all reports are there
        with suppress(BlockingIOError):
            while content := os.read(self._reports, 65536):
                *lines, self._half = (self._half + content).split(b"\n")
                for line in lines:
                    report = msgspec.json.decode(line, type=Report)
                    if report.code is None:
                        self.pids[report.rank] = report.pid
                    else:
                        self.codes[report.rank] = report.code
        return ended

    def wait(self, limit_s: float) -> None:
        """Wait for a report, for at most `limit_s`."""
        select.select([self._reports], [], [], limit_s)

    def terminate(self) -> None:
        """End the server, and with it all ranks."""
        self._process.terminate()

    def kill(self) -> None:
        """Kill the server, and with it all ranks."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Let go of the server once its ranks have ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(REPORT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process.stdout.close()


class ForkedRank:
    """A rank as if it were a child of this process: what `ranks.Rank` needs of a `Popen`."""

    def __init__(self, server: ForkServer, number: int) -> None:
        self.server = server
        self._number = number

    @property
    def pid(self) -> int:
        """Give the rank's process; the server before there is one."""
        return self.server.pids.get(self._number, self.server.pid)

    @property
    def is_lost(self) -> bool:
        """Tell whether it died with its server, or was never started by it."""
        return self.server.look() is not None and self._number not in self.server.codes

    def poll(self) -> int | None:
        """Give the exit code, None while it runs; a lost rank has that of its server."""
        ended = self.server.look()
        code = self.server.codes.get(self._number)
        return code if code is not None else ended

    def terminate(self) -> None:
        """Send SIGTERM to the rank; before there is one, end the server."""
        if pid := self.server.pids.get(self._number):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        else:
            self.server.terminate()

    def kill(self) -> None:
        """Kill the rank and everything in its session's group; wait until it is dead."""
        self.server.look()
        pid = self.server.pids.get(self._number)
        if pid is None:
            self.server.kill()
        else:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        deadline = time.monotonic() + REPORT_S
        while self.poll() is None:
            self.server.wait(POLL_S)
            if time.monotonic() > deadline:  # the server itself is stopped
                self.server.kill()
        while pid and self.is_lost and _lives(pid) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
