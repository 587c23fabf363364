"""Slurm's own commands: submit a job, look at it, stop it."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlstack.errors import BusyError, ConfigError, MachineError

COMMANDS = ("sbatch", "scontrol", "scancel")
PATIENCE_S = 120  # a controller that is busy answers late
LIST_S = 5  # the same, for whoever only wants to look
OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}
WAITING = {
    "PENDING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "RESV_DEL_HOLD",
    "SPECIAL_EXIT",
}
GONE = "GONE"  # the controller has forgotten it, so it is over
UNKNOWN = "UNKNOWN"  # the controller does not answer
FORMAT = "%i|%T|%r|%N"  # job, state, reason, nodes
PREEMPTED = re.compile(r"PreemptTime=\d.*")  # not None, nor Unknown
UNREACHABLE = ("Unable to contact", "Socket timed out", "Connection refused", "Communication")


@dataclass(frozen=True)
class Seen:
    """What Slurm says of a job."""

    state: str
    reason: str = ""
    nodes: str = ""
    exit_code: int = 0  # of the batch script
    signal: int = 0  # that ended it

    @property
    def is_over(self) -> bool:
        """Tell whether the job will not run any more."""
        return self.state in OVER or self.state == GONE

    @property
    def is_waiting(self) -> bool:
        """Tell whether the job has its turn still, or again, to come."""
        return self.state in WAITING


def need() -> None:
    """Refuse a machine from which no job can be submitted.

    Raises:
        MachineError: a command of Slurm is missing.
    """
    for command in COMMANDS:
        if shutil.which(command) is None:
            raise MachineError(
                f"`{command}` is not here, so this machine belongs to no cluster of Slurm",
                hint="type it on a login node of the cluster, or leave --on away",
            )


def submit(script: Path) -> str:
    """Hand a script to Slurm; give the number of its job.

    Raises:
        ConfigError: Slurm refuses what it asks for.
        BusyError: Slurm does not answer.
    """
    done = _call("sbatch", "--parsable", str(script))
    if done.returncode:
        said = _words(done.stderr)
        if any(word in done.stderr for word in UNREACHABLE):
            raise BusyError(f"Slurm does not answer: {said}", hint="try again; is slurmctld up?")
        raise ConfigError(
            f"Slurm refuses the job: {said}",
            hint="change train.slurm; `sinfo` says what the cluster has",
        )
    return done.stdout.strip().partition(";")[0]


def look(job: str) -> Seen:
    """Ask how a job is; Slurm forgets it some minutes after its end."""
    if shutil.which("scontrol") is None:
        return Seen(GONE)  # the project has left the cluster
    done = _call("scontrol", "show", "job", "--oneliner", job)
    if done.returncode:
        return Seen(GONE if "Invalid job id" in done.stderr else UNKNOWN)
    fields = dict(word.partition("=")[::2] for word in done.stdout.split())
    code, _, signal = fields.get("ExitCode", "0:0").partition(":")
    return Seen(
        state=fields["JobState"],
        reason=_known(fields.get("Reason")),
        nodes=_known(fields.get("NodeList")),
        exit_code=int(code),
        signal=int(signal),
    )


def look_at(jobs: Iterable[str]) -> dict[str, Seen]:
    """Ask how several jobs are, in one call; exit codes are not among what it tells."""
    wanted = list(dict.fromkeys(jobs))
    if not wanted or shutil.which("squeue") is None:
        return dict.fromkeys(wanted, Seen(GONE))
    words = ("--noheader", "--states=all", f"--jobs={','.join(wanted)}", f"--format={FORMAT}")
    try:
        done = _call("squeue", *words, patience_s=LIST_S)
    except BusyError:
        return dict.fromkeys(wanted, Seen(UNKNOWN))
    if done.returncode and "Invalid job id" not in done.stderr:
        return dict.fromkeys(wanted, Seen(UNKNOWN))
    rows = [line.split("|") for line in done.stdout.splitlines() if line.count("|") == 3]
    known = {row[0].strip(): Seen(row[1], _known(row[2]), row[3]) for row in rows}
    return {job: known.get(job, Seen(GONE)) for job in wanted}


def is_preempted(job: str) -> bool:
    """Tell whether a job has to make room for another and is in its grace period."""
    fields = _call("scontrol", "show", "job", "--oneliner", job).stdout.split()
    return "JobState=RUNNING" in fields and any(PREEMPTED.fullmatch(one) for one in fields)


def ask_to_stop(job: str) -> None:
    """Ask the watcher inside a job to have the run saved; it takes the time it takes."""
    _call("scancel", "--batch", "--signal=TERM", job)


def ask_ranks_to_stop(job: str) -> "subprocess.Popen[bytes]":
    """Send SIGTERM to the ranks of a job, not to its script; give the process that does it.

    It tries for as long as a job that is being cancelled lasts, whose ranks have had a SIGTERM of
    Slurm's already: not to be waited for.
    """
    return subprocess.Popen(
        ["scancel", "--quiet", "--signal=TERM", job],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def cancel(job: str) -> None:
    """Take a job out of the queue; one that runs is given Slurm's KillWait to save."""
    _call("scancel", job)


def requeue(job: str) -> bool:
    """Put a job that runs back into the queue; False when Slurm does not allow it."""
    return _call("scontrol", "requeue", job).returncode == 0


def _call(*words: str, patience_s: float = PATIENCE_S) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=patience_s
        )
    except subprocess.TimeoutExpired as error:
        raise BusyError(
            f"`{words[0]}` has not answered for {patience_s} s", hint="is slurmctld up?"
        ) from error


def _words(stderr: str) -> str:
    lines = [line.removeprefix("sbatch: ") for line in stderr.strip().splitlines()]
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return "; ".join(told or lines)


def _known(value: str | None) -> str:
    return "" if value in (None, "None", "(null)") else str(value)
