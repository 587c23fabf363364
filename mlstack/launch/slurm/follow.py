"""Follow a run whose job Slurm keeps: submit, show what comes in, say how it ended."""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlstack import errors, files
from mlstack.config.train_sections import Slurm
from mlstack.errors import Interrupted, MachineError, MlstackError, StepError
from mlstack.launch import code, ranks
from mlstack.launch.slurm import queue, script
from mlstack.launch.slurm.queue import Seen
from mlstack.launch.supervise import WORKER, StopRequest, listen
from mlstack.launch.tail import Tail
from mlstack.records import base
from mlstack.records.job import JOB, Job, JobSeen
from mlstack.records.run import (
    EVENTS,
    TERMINAL,
    CheckpointSaved,
    Failed,
    Finished,
    RunEvent,
    RunSpec,
    Stopped,
    append_event,
    read_events,
)

POLL_S = 0.25  # of the events
ASK_S = 2.0  # of Slurm: a controller serves many
TO_WATCHER = 2  # wishes to stop that go to the watcher inside the job: to save, to kill
CANNOT_OPEN = 53  # the "signal" of a job whose output cannot be opened
LOST = ("BOOT_FAIL", "NODE_FAIL", "OUT_OF_MEMORY", "FAILED", "COMPLETED", queue.GONE)


def submit(run_folder: Path, spec: RunSpec, slurm: Slurm, module: str = WORKER.module) -> Job:
    """Write job.sh, hand it to Slurm, and note in job.json which job it is.

    Raises:
        ConfigError: Slurm refuses what `train.slurm` asks for.
        BusyError: Slurm does not answer.
    """
    (run_folder / "logs").mkdir(exist_ok=True)
    path = run_folder / script.SCRIPT
    files.write_text(path, script.render(run_folder, spec, slurm, module))
    events = run_folder / EVENTS
    offset = events.stat().st_size if events.is_file() else 0
    number = queue.submit(path)
    job = Job(
        run=spec.id,
        scheduler="slurm",
        id=number,
        submitted=time.time(),
        offset=offset,
        python_sha256=code.python_sha256(Path(spec.root)),
    )
    base.write(run_folder / JOB, job)
    return job


def job_of(run_folder: Path) -> Job | None:
    """Give the job of a run that waits or runs at this moment, or of which nothing is known."""
    if not (run_folder / JOB).is_file():
        return None
    job = base.read(run_folder / JOB, Job)
    return None if queue.look(job).is_over else job


def follow(
    run_folder: Path, spec: RunSpec, job: Job, *, stop: StopRequest | None = None
) -> Iterator[RunEvent | JobSeen]:
    """Yield the events of a run, and what Slurm says of its job, until the job is over.

    SIGINT and SIGTERM ask once for the run to be saved, twice for its ranks to be killed; a job
    that still waits is cancelled. Whoever only leaves (the terminal is closed, the generator too)
    leaves the job where it is.

    Args:
        run_folder: the run's folder.
        spec: the run.
        job: its job.
        stop: a wish to stop; None listens to the signals of this process.

    Raises:
        Interrupted: it was stopped or cancelled, or the time limit has ended it.
        MachineError: the nodes do not see the run's folder.
        MlstackError: a rank failed, or the job did.
    """
    asked = stop or StopRequest()
    watch = _Watch(run_folder, spec, job, asked, Tail(run_folder, job.offset))
    with listen(asked, on=stop is None):
        yield from watch.events()
        yield watch.conclude()
    watch.judge()


@dataclass
class _Watch:
    """One job, from its submission to its end."""

    folder: Path
    spec: RunSpec
    job: Job
    stop: StopRequest
    tail: Tail
    seen: Seen = field(default_factory=lambda: Seen(""))
    asked: int = 0
    end: RunEvent | None = None  # as far as is known; a requeue takes it back
    next_look: float = 0.0
    next_wish: float = 0.0
    is_up: bool = False  # the watcher, who would die of a signal, or miss it, while it starts

    def events(self) -> Iterator[RunEvent | JobSeen]:
        while not self._is_over():
            yield from self._read()  # first: whether the watcher is up decides who is asked to stop
            self._ask_to_stop()
            if time.monotonic() >= self.next_look:
                yield from self._look()
            time.sleep(POLL_S)
        yield from self._read()  # what came in before its job was over, and after the last look

    def conclude(self) -> RunEvent:
        """Give the event that says how the run ended; write it when nobody inside the job could."""
        if self.end is None:
            self.end = _unsaid(self.spec, self.job, self.seen, self.folder)
            append_event(self.folder, self.end)
        return self.end

    def judge(self) -> None:
        """Raise what the end of the run means.

        Raises:
            MlstackError: it has not finished.
        """
        if isinstance(self.end, Failed):
            kind = getattr(errors, self.end.category, StepError)
            error: MlstackError = kind(self.end.problem, hint=self.end.hint)
            error.where = str(_log(self.folder, self.end.rank))
            if self.end.traceback:
                error.add_note(self.end.traceback)
            raise error
        if isinstance(self.end, Stopped):
            raise Interrupted(
                f"run `{self.spec.id}` was stopped at step {self.end.step} ({self.end.reason})",
                hint=f"`mlstack train --on slurm --resume {self.spec.id}` goes on",
                exit_code=self.stop.exit_code if self.stop.times else 128 + signal.SIGTERM,
            )

    def _is_over(self) -> bool:
        done = isinstance(self.end, Finished) and self.seen.state == "COMPLETING"
        return self.seen.is_over or done

    def _read(self) -> Iterator[RunEvent]:
        for event in self.tail.new():
            if isinstance(event, TERMINAL):
                self.end = event
                self.next_look = 0.0  # the job will be over soon
                self.is_up = False
            else:
                self.end = None
                self.is_up = True
                yield event

    def _look(self) -> Iterator[JobSeen]:
        before, self.seen = self.seen, queue.look(self.job)
        wait = POLL_S if self.end else ASK_S
        self.next_look = time.monotonic() + wait
        if (self.seen.state, self.seen.reason) != (before.state, before.reason):
            yield JobSeen(
                run=self.spec.id,
                id=self.job.id,
                state=self.seen.state,
                reason=self.seen.reason,
                nodes=self.seen.nodes,
            )

    def _ask_to_stop(self) -> None:
        """Pass a wish to stop on: to the watcher in the job, who saves first; else to Slurm.

        One that a controller which is down has not heard is said again when the next look is due.
        """
        if self.stop.times <= self.asked or time.monotonic() < self.next_wish:
            return
        self.next_look, self.next_wish = 0.0, time.monotonic() + ASK_S
        now = queue.look(self.job)
        if now.state == queue.UNKNOWN or now.is_over:
            return
        is_for_watcher = self.asked < TO_WATCHER and now.state == "RUNNING" and self.is_up
        if (queue.ask_to_stop if is_for_watcher else queue.cancel)(self.job.id):
            self.asked, self.next_wish = self.asked + 1, 0.0


def _unsaid(spec: RunSpec, job: Job, seen: Seen, folder: Path) -> RunEvent:
    """Say how a job ended that could not say it itself."""
    now, what = time.time(), f"job {job.id} of Slurm"
    if seen.exit_code == script.UNSEEN or seen.signal == CANNOT_OPEN:
        return Failed(
            run=spec.id,
            at=now,
            rank=0,
            problem=f"{what}: {seen.nodes or 'its node'} does not see `{folder}`",
            hint="put the project on the file system that the nodes of the cluster share",
            category=MachineError.__name__,
        )
    if seen.state in LOST:
        words = f" with exit code {seen.exit_code}" if seen.exit_code else ""
        words += f" by signal {seen.signal}" if seen.signal else ""
        reason = f", {seen.reason}" if seen.reason else ""
        return Failed(
            run=spec.id,
            at=now,
            rank=0,
            problem=f"{what} has ended{words} ({seen.state}{reason}) and says no more",
            hint=f"its last words are in {_log(folder, None)}",
            traceback=ranks.last_lines(_log(folder, None)),
        )
    return Stopped(run=spec.id, at=now, step=_saved(folder), reason=f"{what}: {seen.state}")


def _saved(folder: Path) -> int:
    """Give the step of the last checkpoint."""
    steps = [event.step for event in read_events(folder) if isinstance(event, CheckpointSaved)]
    return steps[-1] if steps else 0


def _log(folder: Path, rank: int | None) -> Path:
    """Give the log of a rank, of the job when there is none."""
    log = ranks.log_file(folder, rank) if rank is not None else None
    return log if log and log.is_file() else folder / "logs" / script.LOG
