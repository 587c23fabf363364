"""Who is at a run at this moment: a process that supervises it, or a job that waits or runs."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msgspec import structs

from mlstack.errors import DataError
from mlstack.launch import supervise
from mlstack.launch.slurm import follow, queue
from mlstack.launch.slurm.queue import Seen
from mlstack.records import base
from mlstack.records.job import JOB, Job
from mlstack.records.run import RunSummary


@dataclass(frozen=True)
class Work:
    """What becomes of a run now; `unsaid` is that Slurm, who knows it, does not answer."""

    state: Literal["running", "queued", "unsaid", "over"]
    words: str = ""  # of its job, where it has one
    job: str = ""


def is_at_work(run_folder: Path) -> bool:
    """Tell whether a run is going on, here or on a cluster, or will when its turn has come."""
    return supervise.is_running(run_folder) or follow.job_of(run_folder) is not None


def look(run_folders: Sequence[Path]) -> list[Work]:
    """Say of each run who is at it; Slurm is asked once, and only where a run has been its job."""
    jobs = [_job(folder) for folder in run_folders]
    seen = queue.look_at(job for job in jobs if job)
    of_jobs = [_of_job(job.id, seen[job.run]) if job else Work("over") for job in jobs]
    return [
        Work("running") if work.state == "over" and supervise.is_running(folder) else work
        for folder, work in zip(run_folders, of_jobs, strict=True)
    ]


def now(state: str, problem: str, work: Work) -> tuple[str, str]:
    """Say what a run is, from its last event and from who is at it: a state, and why.

    Whoever is gone can have left any event as the last one: a run that Slurm puts back into the
    queue says `stopped`, or nothing at all.
    """
    if state in ("finished", "damaged"):
        return state, problem
    if work.state in ("queued", "running"):
        return work.state, work.words
    if state in ("stopped", "failed"):
        return state, problem or work.words
    if work.state == "unsaid":
        return "running", work.words
    died = "its job is over, and did not say how" if work.job else "its process died"
    return "stopped", work.words or (died if state == "running" else "it never started")


def up_to_date(run_folder: Path, found: RunSummary) -> RunSummary:
    """Bring what was read from a run's folder up to date with who is at it."""
    (work,) = look([run_folder])
    state, problem = now(found.state, found.problem, work)
    return structs.replace(found, state=state, problem=problem)


def _job(run_folder: Path) -> Job | None:
    with suppress(DataError):  # no job, or a file that was cut off
        return base.read(run_folder / JOB, Job)
    return None


def _of_job(job: str, seen: Seen) -> Work:
    what, why = f"job {job} of Slurm", f" ({seen.reason})" if seen.reason else ""
    if seen.state == queue.UNKNOWN:
        return Work("unsaid", f"{what}: Slurm does not answer", job)
    if seen.state == queue.GONE:
        return Work("over", job=job)  # long ago, so that Slurm has forgotten it
    if seen.is_waiting:
        return Work("queued", f"{what} waits{why}", job)
    word = seen.state.lower().replace("_", " ")
    if seen.is_over:
        return Work("over", f"{what} is over: {word}{why}", job)
    return Work("running", f"{what} is {word} on {seen.nodes}", job)
