"""Slurm's own commands: submit a job, look at it, stop it."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mlstack.errors import BusyError, ConfigError, MachineError

COMMANDS = ("sbatch", "scontrol", "scancel")
PATIENCE_S = 120  # a controller that is busy answers late
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
GONE = "GONE"  # the controller has forgotten it, so it is over
UNKNOWN = "UNKNOWN"  # the controller does not answer
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


def _call(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired as error:
        raise BusyError(
            f"`{words[0]}` has not answered for {PATIENCE_S} s", hint="is slurmctld up?"
        ) from error


def _words(stderr: str) -> str:
    lines = [line.removeprefix("sbatch: ") for line in stderr.strip().splitlines()]
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return "; ".join(told or lines)


def _known(value: str | None) -> str:
    return "" if value in (None, "None", "(null)") else str(value)
