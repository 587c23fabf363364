"""What `mlstack run` and the status screen answer."""

import msgspec

from mlstack.records.base import Record, Result


class StageStarts(Record, frozen=True, kw_only=True, tag="pipeline.starts"):
    """Progress: a stale stage begins."""

    stage: str
    why: str
    command: str


class StageOutcome(Record, frozen=True, kw_only=True, tag="pipeline.stage"):
    """What became of one stage."""

    stage: str
    ran: bool
    why: str  # why it ran; empty when it was up to date
    result: str


class Ran(Result, frozen=True, kw_only=True, tag="pipeline.ran"):
    """All stages asked for are up to date."""

    stages: list[StageOutcome]

    def headline(self) -> str:
        """Give what the last stage made."""
        return self.stages[-1].result


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
