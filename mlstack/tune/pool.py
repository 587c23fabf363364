"""Trials that run at the same time, each supervised in a thread of its own."""

import threading
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from mlstack.launch.gpus import Gpu
from mlstack.launch.supervise import StopRequest, Terms, supervise
from mlstack.records.run import RunEvent, RunSpec

LEAVE_S = 90.0  # from the wish to stop to the end of every run


@dataclass(frozen=True)
class Ended:
    """A run is over; without an error it has finished."""

    error: Exception | None = None


@dataclass(frozen=True)
class Said:
    """What a trial's run says."""

    number: int
    what: RunEvent | Ended


class Pool:
    """Slots of GPUs (or of the CPU), and the runs in them; a context manager."""

    def __init__(self, slots: list[tuple[Gpu, ...]]) -> None:
        self.wish = StopRequest()  # to stop all of them
        self._free = list(slots)
        self._said: SimpleQueue[Said] = SimpleQueue()
        self._stops: dict[int, StopRequest] = {}
        self._threads: dict[int, threading.Thread] = {}
        self._slots: dict[int, tuple[Gpu, ...]] = {}

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what still runs; every run saves itself first."""
        for number in self._threads:
            self.stop(number)
        for thread in self._threads.values():
            thread.join(LEAVE_S)

    @property
    def has_room(self) -> bool:
        """Tell whether another trial can start."""
        return bool(self._free)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing runs."""
        return not self._threads

    def take(self) -> tuple[Gpu, ...]:
        """Look at the GPUs of the next trial; none is the CPU."""
        return self._free[0]

    def start(self, number: int, folder: Path, spec: RunSpec) -> None:
        """Start a trial's run in the free slot that `take` gave."""
        self._slots[number] = self._free.pop(0)
        stop = self._stops[number] = StopRequest(self.wish)
        # A daemon: whatever ends the command does not wait for it, and its ranks die with it.
        thread = threading.Thread(
            target=self._follow, args=(number, folder, spec, stop), daemon=True
        )
        self._threads[number] = thread
        thread.start()

    def stop(self, number: int) -> None:
        """Ask a trial's run to save itself and end, unless it was asked."""
        if not self._stops[number].times:
            self._stops[number].ask()

    def next(self) -> Said:
        """Wait for the next thing that any run says."""
        said = self._said.get()
        if isinstance(said.what, Ended):
            self._threads.pop(said.number).join()
            self._free.append(self._slots.pop(said.number))
        return said

    def _follow(self, number: int, folder: Path, spec: RunSpec, stop: StopRequest) -> None:
        error: Exception | None = None
        try:
            for event in supervise(folder, spec, resume=False, terms=Terms(stop=stop)):
                self._said.put(Said(number, event))
        except Exception as raised:  # what is not the run's failure, the main thread raises
            error = raised
        self._said.put(Said(number, Ended(error)))
