"""What the train commands say: progress on the way, and one result each."""

import msgspec

from mlstack.records.base import Notice, Record, Result
from mlstack.records.evaluation import Evaluation
from mlstack.records.mirror import Mirrored
from mlstack.records.run import Checked, EpochEnded, RunSpec, RunSummary
from mlstack.records.system import Energy, GpuUse


class Planned(Record, frozen=True, kw_only=True, tag="train.planned"):
    """A run is about to start, or to go on."""

    run: str
    dataset: str  # short md5
    examples: dict[str, int]
    ranks: int
    gpus: list[str]
    resumed: bool = False
    notes: list[str] = msgspec.field(default_factory=list)


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
    state: str  # running, queued, finished, stopped, failed or damaged
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


class Copied(Result, frozen=True, kw_only=True, tag="train.copied"):
    """Runs were brought up to date in mirrors."""

    runs: list[str]
    mirrors: list[Mirrored]  # each mirror of each run

    def headline(self) -> str:
        """List the runs."""
        return "\n".join(self.runs)


class RunList(Result, frozen=True, kw_only=True, tag="train.runs"):
    """The runs of a project, newest first."""

    runs: list[RunRow]

    def headline(self) -> str:
        """List the ids."""
        return "\n".join(row.id for row in self.runs)


class Use(Record, frozen=True, kw_only=True, tag="train.use"):
    """What a run made of the machine; None where nobody looked."""

    seconds: float = 0.0  # of all epochs together
    examples_per_s: float | None = None  # in the middle one of the epochs
    loader_wait: float | None = None  # share of the time, 0 to 1
    cpu_cores: float | None = None  # mean
    memory_bytes: int | None = None  # most that was resident
    free_bytes: int | None = None  # least that was left on the machine
    torch_bytes: int | None = None  # most that torch held on rank 0's GPU
    gpus: list[GpuUse] = msgspec.field(default_factory=list)  # mean share, most memory
    energy: Energy | None = None


class RunShown(Result, frozen=True, kw_only=True, tag="train.run"):
    """Everything about one run."""

    spec: RunSpec
    summary: RunSummary
    epochs: list[EpochEnded]
    checkpoints: list[str]
    use: Use = msgspec.field(default_factory=Use)
    mirrors: list[Mirrored] = msgspec.field(default_factory=list)
    attempts: int = 0  # how often its ranks were started
    next: str = ""  # what to type to go on with it, or to follow it
    html: str = ""

    def headline(self) -> str:
        """Give the run's state."""
        return self.summary.state


class Difference(Record, frozen=True, kw_only=True, tag="train.difference"):
    """A setting or metric that differs between runs; None where a run has none."""

    name: str
    values: list[str | None]


class DataChange(Record, frozen=True, kw_only=True, tag="train.data_change"):
    """What another run's data has that the first one's has not, and the other way round."""

    run: str
    md5: str
    same: bool
    parts: dict[str, list[int]] = msgspec.field(default_factory=dict)  # train: [before, after]
    classes: dict[str, list[int]] = msgspec.field(default_factory=dict)  # those that differ
    added: int | None = None  # None for rows of a table, which have no names
    removed: int | None = None
    relabeled: int | None = None
    moved: int | None = None  # to another part


class RunsCompared(Result, frozen=True, kw_only=True, tag="train.compared"):
    """What differs between runs."""

    runs: list[RunShown]
    settings: list[Difference]
    metrics: list[Difference]
    data: list[str]  # one line for each run after the first
    code: list[str]
    changes: list[DataChange] = msgspec.field(default_factory=list)  # the same, in numbers
    html: str = ""

    def headline(self) -> str:
        """Name the settings that differ."""
        return "\n".join(difference.name for difference in self.settings)
