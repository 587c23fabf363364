"""Measure what a run uses while it goes: a thread of the supervisor, never of a rank."""

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from mlstack.errors import MachineError
from mlstack.launch import power
from mlstack.records.system import GpuUse, Used, append_system

FIRST_S = 1.0  # between two looks at a run that has just begun
MOST_S = 10.0  # between two looks at a long one: about 2 MB a day
LOOKS = 300  # until the pauses grow
QUERY = "index,utilization.gpu,memory.used,power.draw"
NUMBER = re.compile(r"\d+(\.\d+)?")
GPU_S = 10.0  # that a driver may take to answer


@dataclass(frozen=True)
class Watched:
    """The run whose processes are looked at; each rank leads a session of its own."""

    folder: Path
    run: str
    sessions: Callable[[], frozenset[int]]  # a rank has a process only once it is forked
    gpus: tuple[int, ...] = ()


@contextmanager
def sampled(watched: Watched, *, on: bool = True) -> Iterator[None]:
    """Append `run.used` records for a block, from a thread that ends with it."""
    if not on:
        yield
        return
    sampler = Sampler(watched)
    sampler.start()
    try:
        yield
    finally:
        sampler.end()


class Sampler:
    """Looks at the processes of a run every few seconds."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._over = threading.Event()
        self._asking: subprocess.Popen[str] | None = None
        self._spent: dict[int, float] = {}  # CPU seconds by pid, at the last look
        self._thread = threading.Thread(target=self._watch, name="sampler", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Stop, without waiting for a driver that does not answer."""
        self._over.set()
        if (asking := self._asking) is not None:
            asking.kill()
        self._thread.join()

    def _watch(self) -> None:
        began = before = time.monotonic()
        psutil.cpu_percent()  # the first call only sets the clock
        meter = power.Meter()
        self._look()
        while not self._over.wait(pause(time.monotonic() - began)):
            now = time.monotonic()
            cpu_s, memory_bytes = self._look()
            if not memory_bytes:
                continue  # no rank is there yet, or any more
            used = Used(
                run=self._watched.run,
                at=time.time(),
                cpu_cores=round(cpu_s / (now - before), 3),
                machine_cpu=psutil.cpu_percent() / 100,
                memory_bytes=memory_bytes,
                free_bytes=psutil.virtual_memory().available,
                gpus=self._gpus(),
                seconds=round(now - before, 3),
                processors_j=meter.joules(),
            )
            before = now
            try:
                append_system(self._watched.folder, used)
            except MachineError:
                return  # a full disk is the run's to tell; nobody needs it twice

    def _look(self) -> tuple[float, int]:
        """Give the CPU seconds since the last look and the bytes that are resident now."""
        spent: dict[int, float] = {}
        memory_bytes = 0
        sessions = self._watched.sessions()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) in sessions:
                    times = process.cpu_times()
                    spent[process.pid] = times.user + times.system
                    memory_bytes += process.memory_info().rss
        passed = sum(max(0.0, s - self._spent.get(pid, 0.0)) for pid, s in spent.items())
        self._spent = spent
        return passed, memory_bytes

    def _gpus(self) -> list[GpuUse]:
        """Ask the driver about the run's GPUs; nothing where it does not answer."""
        command = shutil.which("nvidia-smi")
        if not self._watched.gpus or command is None or self._over.is_set():
            return []
        chosen = ",".join(str(index) for index in self._watched.gpus)
        words = [command, "-i", chosen, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
        try:
            with subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ) as asking:
                self._asking = asking
                if self._over.is_set():  # `end` has looked before there was one to kill
                    asking.kill()
                try:
                    said, _ = asking.communicate(timeout=GPU_S)
                except subprocess.TimeoutExpired:
                    asking.kill()
                    return []
        except OSError:
            return []
        finally:
            self._asking = None
        return parse(said)


def pause(elapsed_s: float) -> float:
    """Give the seconds until the next look: short runs are seen too, long ones stay small."""
    return min(MOST_S, max(FIRST_S, elapsed_s / LOOKS))


def parse(listing: str) -> list[GpuUse]:
    """Read what `nvidia-smi --query-gpu` printed; what a card does not say is 0, its watts None."""
    found = []
    for line in listing.splitlines():
        index, *figures = (part.strip() for part in line.split(","))
        if index.isdigit() and len(figures) == 3:
            busy, mib, watts = (float(f) if NUMBER.fullmatch(f) else None for f in figures)
            found.append(
                GpuUse(
                    index=int(index),
                    busy=(busy or 0.0) / 100,
                    memory_bytes=int(mib or 0) << 20,
                    watts=watts,
                )
            )
    return found
