"""Slurm's own commands: submit a job, look at it, stop it."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlstack.errors import BusyError, ConfigError, MachineError
from mlstack.records.job import Job

COMMANDS = ("sbatch", "scontrol", "scancel")
PATIENCE_S = 120.0  # a controller that is busy answers late
LIST_S = 5.0  # the same, for whoever only wants to look
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
FORMAT = "%i|%T|%r|%N|%j %o"  # job, state, reason, nodes; name and command
PREEMPTED = re.compile(r"PreemptTime=\d.*")  # not None, nor Unknown
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")  # of what a job sets: where the cluster is
LATE = "Unable to contact Slurm"
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
    def is_ending(self) -> bool:
        """Tell whether the job is over, or only has its processes ended still."""
        return self.is_over or self.state == "COMPLETING"

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
    done = _call("sbatch", "--parsable", str(script), environment=_outside(os.environ))
    if done.returncode:
        said = _words(done.stderr)
        if any(word in done.stderr for word in UNREACHABLE):
            raise BusyError(f"Slurm does not answer: {said}", hint="try again; is slurmctld up?")
        raise ConfigError(
            f"Slurm refuses the job: {said}",
            hint="change train.slurm; `sinfo` says what the cluster has",
        )
    return done.stdout.strip().partition(";")[0]


def look(job: Job) -> Seen:
    """Ask how a job is; Slurm forgets it some minutes after its end.

    Another cluster, or this one when it is set up anew, may have given its number to another job,
    which does not speak of the run.
    """
    if shutil.which("scontrol") is None:
        return Seen(GONE)  # the project has left the cluster
    done = _call("scontrol", "show", "job", "--oneliner", job.id)
    if done.returncode:
        return Seen(GONE if "Invalid job id" in done.stderr else UNKNOWN)
    if job.run not in done.stdout:
        return Seen(GONE)
    fields = dict(word.partition("=")[::2] for word in done.stdout.split())
    code, _, signal = fields.get("ExitCode", "0:0").partition(":")
    return Seen(
        state=fields["JobState"],
        reason=_known(fields.get("Reason")),
        nodes=_known(fields.get("NodeList")),
        exit_code=int(code),
        signal=int(signal),
    )


def look_at(jobs: Iterable[Job]) -> dict[str, Seen]:
    """Ask how several runs' jobs are, in one call; exit codes are not among what it tells."""
    wanted = {job.run: job.id for job in jobs}
    if not wanted or shutil.which("squeue") is None:
        return dict.fromkeys(wanted, Seen(GONE))
    ids = ",".join(dict.fromkeys(wanted.values()))
    words = ("--noheader", "--states=all", f"--jobs={ids}", f"--format={FORMAT}")
    done = _call("squeue", *words, patience_s=LIST_S)
    if done.returncode and "Invalid job id" not in done.stderr:
        return dict.fromkeys(wanted, Seen(UNKNOWN))
    rows = [line.split("|", 4) for line in done.stdout.splitlines() if line.count("|") >= 4]
    known = {row[0].strip(): row for row in rows}
    return {run: _row(known.get(job, []), run) for run, job in wanted.items()}


def _row(row: list[str], run: str) -> Seen:
    if not row or run not in row[4]:
        return Seen(GONE)
    return Seen(row[1], _known(row[2]), row[3])


def is_preempted(job: str) -> bool:
    """Tell whether a job has to make room for another and is in its grace period."""
    fields = _call("scontrol", "show", "job", "--oneliner", job).stdout.split()
    return "JobState=RUNNING" in fields and any(PREEMPTED.fullmatch(one) for one in fields)


def ask_to_stop(job: str) -> bool:
    """Ask the watcher inside a job to have the run saved; False when Slurm did not hear it."""
    return _call("scancel", "--batch", "--signal=TERM", job).returncode == 0


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


def cancel(job: str) -> bool:
    """Take a job out of the queue; one that runs is given Slurm's KillWait to save.

    Returns:
        Whether Slurm has heard it.
    """
    return _call("scancel", job).returncode == 0


def requeue(job: str) -> bool:
    """Put a job that runs back into the queue; False when Slurm does not allow it."""
    return _call("scontrol", "requeue", job).returncode == 0


def _outside(given: Mapping[str, str]) -> dict[str, str]:
    """Give an environment without the job that this process is in: its sizes are not the new one's.

    sbatch hands on what it finds, and only replaces what the new job has asked for itself.
    """
    if "SLURM_JOB_ID" not in given:
        return dict(given)
    inside = re.compile(r"(SLURM|SLURMD|SRUN)_")
    return {name: v for name, v in given.items() if name in KEPT or not inside.match(name)}


# What takes too long has failed, as it does when Slurm's own patience is over first.
def _call(
    *words: str, patience_s: float = PATIENCE_S, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=patience_s,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the run
        )
    except subprocess.TimeoutExpired:
        said = f"{LATE}: `{words[0]}` has not answered for {patience_s:.0f} s"
        return subprocess.CompletedProcess(words, 1, stdout="", stderr=said)


def _words(stderr: str) -> str:
    lines = [line.removeprefix("sbatch: ") for line in stderr.strip().splitlines()]
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return "; ".join(told or lines)


def _known(value: str | None) -> str:
    return "" if value in (None, "None", "(null)") else str(value)
