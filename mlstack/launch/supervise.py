"""Start the ranks of a run, watch them, and leave no process behind.

What a worker (`python -m mlstack.train.worker RUN_FOLDER [--resume]`, one process a rank) may
rely on, and what it must do:

Environment: torchelastic's contract. RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, GROUP_RANK,
GROUP_WORLD_SIZE, ROLE_RANK, ROLE_WORLD_SIZE, MASTER_ADDR (127.0.0.1), MASTER_PORT (free),
TORCHELASTIC_RUN_ID (the run's id), TORCHELASTIC_RESTART_COUNT, TORCHELASTIC_MAX_RESTARTS;
TORCHELASTIC_USE_AGENT_STORE is absent, so rank 0 opens the store. OMP_NUM_THREADS shares the
cores, OMP_WAIT_POLICY is PASSIVE. CUDA_DEVICE_ORDER is PCI_BUS_ID; CUDA_VISIBLE_DEVICES holds the
GPUs of the whole run, the same in every rank (LOCAL_RANK chooses), and is empty for a run on the
CPU. All of this is set for one rank as well. The working directory is the project's folder, stdin
is empty, stdout and stderr go to `logs/rank-N.log`. Each rank leads a session of its own, so Ctrl-C
never reaches it; it is killed when the supervisor dies.

Files below RUN_FOLDER: `run.json` (RunSpec) and `examples.parquet` are there. Rank 0 appends
events to `events.jsonl` with `records.run.append_event`: Reading while it makes examples ready,
Started, then Stepped (at most a few a second), CheckpointSaved, EpochEnded, and at the very end one
of Finished, Stopped, Failed. Any rank that raises appends Failed, with the name of its error class
as `category`, and exits with 1.
With `mode == "check"` the events are Started, Checked for each check, then Finished, whether or
not the checks passed. Each rank beats in `heartbeat-N` (`records/heartbeat.py`) from the training,
validation and test loop itself, never from a thread, and says how long it may be silent. One that
has been for longer, and that no other rank is behind, is taken for hung; its stack goes to its log
on SIGUSR2.

Several ranks on the CPU are forked from a process that has imported their libraries
(`forkserver.py`); a rank cannot tell. `logs/forkserver.log` is empty when that went well.

Signals: SIGTERM means: finish the current batch, save `checkpoints/last.ckpt`, append Stopped,
exit with 0 (all ranks get it, not at the same batch: agree before leaving). SIGKILL follows after
`Patience.stop_s`, and at once for a check. `--resume` goes on from `checkpoints/last.ckpt`, or from
the start when there is none yet. Exit codes: 0 after Finished or Stopped, 1 after Failed.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlstack import errors, files
from mlstack.errors import Interrupted, MlstackError, StepError
from mlstack.launch import ranks, sampler, verdict
from mlstack.launch.pulse import Pulse
from mlstack.launch.ranks import Program, Rank
from mlstack.launch.tail import Tail
from mlstack.records.run import (
    LOCK,
    CheckpointSaved,
    Failed,
    Finished,
    RunEvent,
    RunSpec,
    Stopped,
    append_event,
)

WORKER = Program("mlstack.train.worker", preload="mlstack.train.worker.engine")
KILLED = "killed before it could save"


@dataclass(frozen=True)
class Patience:
    """How long a run is waited for, in seconds."""

    start_s: float = 3600  # before the first heartbeat: imports, reading the data
    hang_s: float = math.inf  # between two heartbeats, at most; a rank may ask for less
    stop_s: float = 60  # from SIGTERM to a saved checkpoint; a check has nothing to save
    leave_s: float = 30  # for the others, when a rank has left with exit code 0
    failed_s: float = 0.2  # for the others, when a rank has failed: they wait for it in vain
    stack_s: float = 0.2  # for a rank that hangs, to say where
    echo_s: float = 0.1  # for the exit code of a rank that another one has lamented already


class StopRequest:
    """A wish to end a run: asked once it is saved first, asked twice it is killed."""

    def __init__(self, above: "StopRequest | None" = None) -> None:
        """Begin with no wish, or with that of `above`, which is a wish to end this run too."""
        self._above = above
        self.signal = 0
        self._times = 0

    def ask(self, number: int = signal.SIGTERM, _: object = None) -> None:
        """Ask to stop; fit to be a signal handler, safe from any thread."""
        self.signal = self.signal or number
        self._times += 1

    @property
    def times(self) -> int:
        """How often it was asked for."""
        return max(self._times, self._above.times if self._above else 0)

    @property
    def exit_code(self) -> int:
        """Exit code of a command that was asked to stop."""
        return 128 + (self.signal or signal.SIGTERM)


@dataclass(frozen=True)
class Terms:
    """What a caller may settle about a run that is supervised."""

    gpus: tuple[int, ...] | None = None  # GPUs leased now; None takes those of the spec
    stop: StopRequest | None = None  # None listens to SIGINT and SIGTERM of this process
    patience: Patience = field(default_factory=Patience)
    start: Callable[[ranks.Command], AbstractContextManager[list[Rank]]] = ranks.started


def is_running(run_folder: Path) -> bool:
    """Tell whether a process supervises the run at this moment."""
    return files.is_locked(run_folder / LOCK)


def supervise(
    run_folder: Path,
    spec: RunSpec,
    *,
    resume: bool,
    program: Program = WORKER,
    terms: Terms | None = None,
) -> Iterator[RunEvent]:
    """Run the ranks of `spec` and yield its events as they come, the last one included.

    No process is left when the iterator ends, is closed early, or its process is killed. Close it
    in the thread that first called `next`: the ranks die with that thread.

    Raises:
        BusyError: another process runs this run.
        Interrupted: it was asked to stop; a `Stopped` was yielded, `--resume` goes on.
        MlstackError: a rank failed; a `Failed` that names the first one was yielded.
    """
    terms = terms or Terms()
    gpus = tuple(spec.gpus) if terms.gpus is None else terms.gpus
    arguments = [str(run_folder), *(["--resume"] if resume else [])]
    command = ranks.Command(program, arguments, spec, run_folder, gpus)
    stop = terms.stop or StopRequest()
    on = terms.stop is None
    with files.lock(run_folder / LOCK, f"run `{spec.id}`"), listen(stop, on=on, hangup=True):
        tail = Tail(run_folder)
        with terms.start(command) as started, _sampled(command, started):
            watch = _Watch(command, started, tail, stop, terms.patience)
            try:
                yield from watch.events()
            finally:
                watch.close()


def _sampled(command: ranks.Command, started: list[Rank]) -> AbstractContextManager[None]:
    def sessions() -> frozenset[int]:
        return frozenset(rank.pid for rank in started if rank.pid)

    watched = sampler.Watched(command.run_folder, command.spec.id, sessions, command.gpus)
    return sampler.sampled(watched, on=command.spec.mode == "fit")


@contextmanager
def listen(stop: StopRequest, *, on: bool = True, hangup: bool = False) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into stop requests for a block, in the main thread.

    With `hangup` also SIGHUP, a terminal that is closed, unless it is ignored (`nohup`).
    """
    if not on or threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hangup and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {n: signal.signal(n, stop.ask) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Watch:
    """The ranks of one attempt, from the first event to the verdict."""

    def __init__(
        self,
        command: ranks.Command,
        started: list[Rank],
        tail: Tail,
        stop: StopRequest,
        patience: Patience,
    ) -> None:
        self.spec = command.spec
        self.run_folder = command.run_folder
        self.ranks = started
        self.tail = tail
        self.stop = stop
        self.patience = patience
        self.pulse = Pulse(command.run_folder, command.spec.ranks)
        self.waiting: list[RunEvent] = []
        self.failed: list[Failed] = []
        self.end: RunEvent | None = None
        self.saved_step = 0
        self.deadline: float | None = None  # monotonic; ranks that live longer are killed
        self.asked = False
        self.saves = command.spec.mode == "fit"  # a check has nothing to save

    def events(self) -> Iterator[RunEvent]:
        """Yield the run's events; the last one says how it ended, and may be an error."""
        failure: Failed | None = None
        is_over = False
        while failure is None and not is_over:
            self._ask_to_stop()
            codes = [rank.code for rank in self.ranks]
            self._read()  # after the codes, so that a dead rank's last words are there
            failure = self._failure(codes)
            if failure and verdict.is_echo(failure):
                failure = self._second_look(failure)
            is_over = None not in codes or self._is_too_late(codes)
            yield from self._take()
            if failure is None and not is_over:
                time.sleep(ranks.POLL_S)
        ranks.end(self.ranks, grace_s=self.patience.failed_s if failure else 0)
        yield self._conclude(failure)
        if failure:
            raise _error(failure, self.run_folder)
        if isinstance(self.end, Stopped):
            lost = "" if self.end.reason == KILLED else "; its state is saved"
            raise Interrupted(
                f"run `{self.spec.id}` was stopped at step {self.end.step}{lost}",
                hint=f"`mlstack train --resume {self.spec.id}` goes on",
                exit_code=self.stop.exit_code,
            )

    def close(self) -> None:
        """Stop ranks that still run, because the caller has stopped listening."""
        if any(rank.code is None for rank in self.ranks):
            self.asked = True
            ranks.end(self.ranks, grace_s=self.patience.leave_s if self.saves else 0)
            self._read()
            self._conclude(None)

    def _read(self) -> None:
        """Sort new events: those to show, and those that the verdict needs."""
        for event in self.tail.new():
            if isinstance(event, Failed):
                self.failed.append(event)
            elif isinstance(event, Finished | Stopped):
                self.end = event
            else:
                self.waiting.append(event)
            if isinstance(event, CheckpointSaved):
                self.saved_step = event.step

    def _take(self) -> Iterator[RunEvent]:
        while self.waiting:
            yield self.waiting.pop(0)

    def _ask_to_stop(self) -> None:
        """Pass on a wish to stop: SIGTERM the first time, SIGKILL the second."""
        if self.stop.times and not self.asked:
            self.asked = True
            self.deadline = time.monotonic() + (self.patience.stop_s if self.saves else 0)
            for rank in self.ranks:
                rank.ask_to_stop()
        if self.stop.times > 1:
            self.deadline = 0.0

    def _is_too_late(self, codes: list[int | None]) -> bool:
        """Tell whether those that still run have had their time."""
        if self.deadline is None and (self.end or 0 in codes):
            self.deadline = time.monotonic() + self.patience.leave_s
        return self.deadline is not None and time.monotonic() > self.deadline

    def _failure(self, codes: list[int | None]) -> Failed | None:
        """Judge whether the run has failed, and name the rank that was first."""
        if self.end:
            return None
        if self.asked:  # a rank that SIGTERM met before it listened has not failed
            codes = [0 if code == -signal.SIGTERM else code for code in codes]
        found = verdict.first_failure(self.spec.id, self.ranks, codes, self.failed)
        if found or self.asked:
            return found
        if None not in codes or self._is_too_late(codes):
            return verdict.left_early(self.spec.id, self.ranks, codes)
        return self._hang(codes)

    def _hang(self, codes: list[int | None]) -> Failed | None:
        """Name the rank that does not move any more, if there is one."""
        ends = zip(self.ranks, codes, strict=True)
        running = {rank.number: rank.pid for rank, code in ends if code is None}
        hang = self.pulse.hang(running, self.patience.start_s, self.patience.hang_s)
        if hang is None:
            return None
        for number in running:
            self.ranks[number].ask_where()
        time.sleep(self.patience.stack_s)
        return verdict.hung(self.spec.id, self.ranks[hang.rank], hang)

    def _second_look(self, echo: Failed) -> Failed:
        """Wait for the exit code of a rank whose silence another one has already lamented."""
        until = time.monotonic() + self.patience.echo_s
        found = echo
        while verdict.is_echo(found) and time.monotonic() < until:
            time.sleep(ranks.POLL_S)
            codes = [rank.code for rank in self.ranks]
            self._read()
            found = self._failure(codes) or echo
        return found

    def _conclude(self, failure: Failed | None) -> RunEvent:
        """Make the event that says how the run ended the last one of its file."""
        self._read()
        if failure is None and self.end is None:
            self.end = Stopped(
                run=self.spec.id, at=time.time(), step=self.saved_step, reason=KILLED
            )
        last = failure or self.end
        assert last is not None
        if self.tail.last != last:
            append_event(self.run_folder, last)
        return last


def _error(failed: Failed, run_folder: Path) -> MlstackError:
    kind = getattr(errors, failed.category, StepError)
    error: MlstackError = kind(failed.problem, hint=failed.hint)
    log = ranks.log_file(run_folder, failed.rank)
    error.where = str(log if log.is_file() else log.parent)  # one that never began has none
    if failed.traceback:
        error.add_note(failed.traceback)
    return error
