"""What `mlstack run` and the status screen answer."""

import msgspec

from mlstack.records.base import Notice, Record, Result


class PipelineRewritten(Notice, frozen=True, kw_only=True, tag="pipeline.rewritten"):
    """`dvc repro` runs us with a dvc.yaml that was out of date, and is not any more."""

    text: str = "dvc.yaml was out of date and was written anew; type `dvc repro` once more"


class StageStarts(Record, frozen=True, kw_only=True, tag="pipeline.starts"):
    """Progress: a stale stage begins."""

    stage: str
    why: str
    command: str


class StageRetries(Record, frozen=True, kw_only=True, tag="pipeline.retries"):
    """Progress: something was busy; the stage tries again after a while."""

    stage: str
    problem: str
    wait_s: float
    attempt: int  # the one that comes next, counted from 1
    attempts: int


class StageTakes(Record, frozen=True, kw_only=True, tag="pipeline.takes"):
    """Progress: what the stage would make is there, made from the same inputs before."""

    stage: str
    result: str


class StageOutcome(Record, frozen=True, kw_only=True, tag="pipeline.stage"):
    """What became of one stage."""

    stage: str
    ran: bool
    why: str  # why it ran; empty when it was up to date
    result: str
    how: str = ""  # `resumed`, or `taken`: made before from the same data, code and settings


class Ran(Result, frozen=True, kw_only=True, tag="pipeline.ran"):
    """All stages asked for are up to date."""

    stages: list[StageOutcome]

    def headline(self) -> str:
        """Give what the last stage made."""
        return self.stages[-1].result


class StagePlan(Record, frozen=True, kw_only=True, tag="pipeline.stage_plan"):
    """What would become of one stage."""

    stage: str
    verdict: str  # `runs`, `may run` or `up to date`
    why: list[str]  # every reason; none when it is up to date
    command: str


class DryRun(Result, frozen=True, kw_only=True, tag="pipeline.dry"):
    """What `mlstack run` would do; nothing was run and nothing was written."""

    stages: list[StagePlan]

    def headline(self) -> str:
        """Name the stages that would run."""
        return "\n".join(plan.stage for plan in self.stages if plan.verdict != "up to date")


class Line(Record, frozen=True, kw_only=True, tag="status.line"):
    """The state of one part of the project."""

    part: str
    state: str
    is_well: bool = True  # false: a person should look


class Status(Result, frozen=True, kw_only=True, tag="pipeline.status"):
    """The whole project on one screen, and what to type next."""

    project: str
    task: str
    lines: list[Line] = msgspec.field(default_factory=list)
    next: str = ""
    why: str = ""

    def headline(self) -> str:
        """Give the next command."""
        return self.next
