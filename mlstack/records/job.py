"""A run that a cluster's scheduler starts: which job it is, `job.json` beside run.json."""

from mlstack.records.base import Record

JOB = "job.json"


class Job(Record, frozen=True, kw_only=True, tag="run.job"):
    """The job of a run's last submission."""

    run: str
    scheduler: str  # slurm
    id: str
    submitted: float  # seconds since the epoch
    offset: int = 0  # bytes of events.jsonl that are older than the job
    python_sha256: str | None = None  # of the code that was submitted


class JobSeen(Record, frozen=True, kw_only=True, tag="run.job_seen"):
    """What the scheduler says of a job has changed."""

    run: str
    id: str
    state: str  # in the scheduler's own words, e.g. PENDING
    reason: str = ""  # why it waits
    nodes: str = ""
