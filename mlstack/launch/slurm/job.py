"""Watch a run inside its job: `python -m mlstack.launch.slurm.job RUN_FOLDER srun ...`.

It runs on the first node, without torch. SIGTERM (`scancel`, a requeue) and SIGUSR1 (the time limit
is near) have the run saved; after SIGUSR1 the job is put back into the queue. So it is when Slurm
preempts it: its ranks get their SIGTERM then, and the watcher none.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mlstack.errors import (
    OK,
    BusyError,
    ConfigError,
    DataError,
    Interrupted,
    MlstackError,
    StepError,
)
from mlstack.launch import code, ranks, verdict
from mlstack.launch.remote import Launcher, ranks_of
from mlstack.launch.slurm import queue
from mlstack.launch.supervise import Patience, StopRequest, Terms, supervise
from mlstack.records import base
from mlstack.records.base import read
from mlstack.records.job import JOB, Job
from mlstack.records.run import EVENTS, SPEC, RunSpec, Started, Stopped, append_event

# srun: error: node-1: tasks 0-3,7: Exited with exit code 1
ENDED = re.compile(r"^srun: error: \S+: tasks? ([\d,-]+): (.+?)( \(core dumped\))?$")
EXITED = "Exited with exit code "
MEMORY = "Out Of Memory"
NOTED_S, POLL_S = 5.0, 0.1  # until whoever has submitted the job has noted which one it is
SRUN_S = 5.0  # until srun says which rank it was that the others have lost
TOO_SHORT = (
    "the time limit of the job came before a single step was done",
    "make train.slurm.time longer",
)
CHANGED = (
    "the code has changed while the job was waiting",
    "put it back and train --resume; --allow-dirty goes on all the same",
)


def main() -> int:
    """Watch the run to its end; give the exit code of the job."""
    folder, launch = Path(sys.argv[1]), sys.argv[2:]
    spec = read(folder / SPEC, RunSpec)
    job = os.environ["SLURM_JOB_ID"]
    stop = StopRequest()
    signal.signal(signal.SIGTERM, stop.ask)
    signal.signal(signal.SIGUSR1, stop.ask)
    noted = _noted(folder, job)
    if noted is not None and noted.id != job and not queue.look(noted).is_ending:
        sys.stderr.write(f"mlstack: the run is job {noted.id} already, which goes on\n")
        return BusyError.exit_code
    if noted is not None and _has_changed(noted, spec):
        append_event(folder, verdict.told(spec.id, *CHANGED, category=ConfigError.__name__))
        return ConfigError.exit_code
    if noted is None or noted.id != job:
        noted = _note(folder, spec, job, noted)
    if queue.look(noted).is_ending:  # cancelled while this began: no signal came
        return Interrupted.exit_code
    try:
        return _watch(folder, spec, stop, _Srun(launch, job))
    except MlstackError as error:
        sys.stderr.write(f"mlstack: {error.problem}\n")
        return error.exit_code


def read_exits(line: str) -> dict[int, int]:
    """Read from a line of srun which ranks have ended badly, and how: by a negative signal."""
    found = ENDED.match(line.rstrip())
    code = _code(found[2]) if found else 0
    return dict.fromkeys(_numbers(found[1]), code) if found and code else {}


@dataclass(frozen=True)
class _Srun:
    """Starts all ranks of a job with one `srun`."""

    command: list[str]
    job: str

    @contextmanager
    def started(self, command: ranks.Command) -> Iterator[list[ranks.Rank]]:
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        asking: list[subprocess.Popen[bytes]] = []
        launcher = Launcher(
            process,
            command.spec.ranks,
            read_exits,
            lambda: asking.append(queue.ask_ranks_to_stop(self.job)),
            sys.stderr,
        )
        try:
            yield ranks_of(launcher, command)
        finally:
            launcher.kill()
            for one in asking:
                one.kill()
                one.wait()


def _watch(folder: Path, spec: RunSpec, stop: StopRequest, srun: _Srun) -> int:
    began = ended = 0
    terms = Terms(stop=stop, start=srun.started, patience=Patience(echo_s=SRUN_S))
    try:
        for event in supervise(folder, spec, resume=True, terms=terms):
            began = event.step if isinstance(event, Started) else began
            ended = event.step if isinstance(event, Stopped) else ended
    except Interrupted as stopped:
        is_preempted = not stop.times and queue.is_preempted(srun.job)
        if stop.signal != signal.SIGUSR1 and not is_preempted:
            return stopped.exit_code
        if ended <= began and not is_preempted:
            append_event(folder, verdict.told(spec.id, *TOO_SHORT))
            return StepError.exit_code
        return _put_back(srun.job, stopped)
    return OK


def _put_back(job: str, stopped: Interrupted) -> int:
    """Put the job back into the queue; Slurm does not, where it leaves before it is killed."""
    sys.stderr.write(f"mlstack: {stopped.problem}; back into the queue\n")
    sys.stderr.flush()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return OK if queue.requeue(job) else stopped.exit_code


def _noted(folder: Path, job: str) -> Job | None:
    """Read which job the run is: this one, or an earlier one when a person has submitted this."""
    deadline = time.monotonic() + NOTED_S
    noted: Job | None = None
    while noted is None or noted.id != job:
        with suppress(DataError):
            noted = read(folder / JOB, Job)
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
    return noted


def _note(folder: Path, spec: RunSpec, job: str, before: Job | None) -> Job:
    """Note a job that a person has submitted, so that others can follow it and find it taken."""
    events = folder / EVENTS
    digest = before.python_sha256 if before else code.python_sha256(Path(spec.root))
    this = Job(
        run=spec.id,
        scheduler="slurm",
        id=job,
        submitted=time.time(),
        offset=events.stat().st_size if events.is_file() else 0,
        python_sha256=digest,
    )
    base.write(folder / JOB, this)
    return this


def _has_changed(noted: Job, spec: RunSpec) -> bool:
    """Tell whether the code is another one by now: a job may wait for days."""
    if shutil.which("git") is None:  # it says which files are the code; a node may lack it
        sys.stderr.write("mlstack: without git here, code that has changed is not noticed\n")
        return False
    return noted.python_sha256 != code.python_sha256(Path(spec.root))


def _numbers(listed: str) -> Iterator[int]:
    for part in listed.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _code(words: str) -> int:
    if words.startswith(EXITED):
        return int(words.removeprefix(EXITED))
    if words == MEMORY:
        return -signal.SIGKILL
    names = {signal.strsignal(number): -number for number in signal.valid_signals()}
    return int(names.get(words, 0))


if __name__ == "__main__":
    sys.exit(main())
