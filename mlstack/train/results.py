"""What the train commands say: progress on the way, and one result each."""

import msgspec

from mlstack.records.base import Notice, Record, Result
from mlstack.records.evaluation import Evaluation
from mlstack.records.run import Checked, EpochEnded, RunSpec, RunSummary


class Planned(Record, frozen=True, kw_only=True, tag="train.planned"):
    """A run is about to start, or to go on."""

    run: str
    dataset: str  # short md5
    examples: dict[str, int]
    ranks: int
    gpus: list[str]
    resumed: bool = False
    notes: list[str] = msgspec.field(default_factory=list)


class Waiting(Record, frozen=True, kw_only=True, tag="train.waiting"):
    """GPUs are in use; whoever came first gets them first."""

    place: int  # in the queue, from 1
    free: int
    count: int  # of GPUs that would do
    users: list[str]
    ahead: list[str]


class Trained(Result, frozen=True, kw_only=True, tag="train.trained"):
    """The end of a run."""

    run: str
    state: str
    epochs: int
    best_epoch: int
    monitor: str
    metrics: dict[str, float]
    seconds: float
    checkpoint: str  # below the project's folder
    next: str

    def headline(self) -> str:
        """Give the run's id."""
        return self.run


class CheckPassed(Result, frozen=True, kw_only=True, tag="train.check_passed"):
    """Everything that `train --check` tried has worked."""

    checks: list[Checked]
    next: str = "mlstack train"

    def headline(self) -> str:
        """Say how many checks there were."""
        return f"{len(self.checks)} checks passed"


class Evaluated(Result, frozen=True, kw_only=True, tag="train.evaluated"):
    """A run was measured."""

    evaluation: Evaluation
    file: str  # below the project's folder

    def headline(self) -> str:
        """Give the accuracy."""
        return f"{self.evaluation.metrics['acc']:.4f}"


class RunRow(Record, frozen=True, kw_only=True, tag="train.row"):
    """One run in a list."""

    id: str
    state: str  # running, finished, stopped, failed, new or damaged
    created: str
    epoch: int = 0
    epochs: int = 0
    monitor: str = ""
    value: float | None = None  # of `monitor`, in the best epoch
    dataset: str = ""  # md5
    mode: str = "fit"
    parent: str | None = None
    study: str | None = None
    trial: int | None = None
    problem: str = ""
    host: str = ""  # the machine of a run that is not here


class Unlisted(Notice, frozen=True, kw_only=True, tag="train.unlisted"):
    """The list of all runs could not be told of this one."""

    problem: str


class RunList(Result, frozen=True, kw_only=True, tag="train.runs"):
    """The runs of a project, newest first."""

    runs: list[RunRow]

    def headline(self) -> str:
        """List the ids."""
        return "\n".join(row.id for row in self.runs)


class RunShown(Result, frozen=True, kw_only=True, tag="train.run"):
    """Everything about one run."""

    spec: RunSpec
    summary: RunSummary
    epochs: list[EpochEnded]
    checkpoints: list[str]
    html: str = ""

    def headline(self) -> str:
        """Give the run's state."""
        return self.summary.state


class Difference(Record, frozen=True, kw_only=True, tag="train.difference"):
    """A setting or metric that differs between runs; None where a run has none."""

    name: str
    values: list[str | None]


class RunsCompared(Result, frozen=True, kw_only=True, tag="train.compared"):
    """What differs between runs."""

    runs: list[RunShown]
    settings: list[Difference]
    metrics: list[Difference]
    data: list[str]  # one line for each run after the first
    code: list[str]
    html: str = ""

    def headline(self) -> str:
        """Name the settings that differ."""
        return "\n".join(difference.name for difference in self.settings)
