"""What `tune` tells: a study, its trials, the best of them."""

from typing import Any

import msgspec

from mlstack.records.base import Record, Result


class StudySpec(Record, frozen=True, kw_only=True, tag="study.spec"):
    """What a study searches and how; kept in its journal, never changed."""

    name: str
    created: str  # UTC, ISO 8601
    space: dict[str, Any]
    sampler: str
    pruner: str
    monitor: str
    mode: str
    epochs: int
    seed: int


class TrialRow(Record, frozen=True, kw_only=True, tag="tune.trial"):
    """One trial at a glance."""

    number: int
    state: str  # finished, pruned, failed, interrupted, running or waiting
    parameters: dict[str, Any]
    value: float | None = None
    epochs: int = 0
    run: str = ""
    problem: str = ""


class StudyStarted(Record, frozen=True, kw_only=True, tag="tune.study"):
    """A search begins or goes on."""

    study: str
    trials: int  # wanted
    done: int
    sampler: str
    pruner: str
    monitor: str
    mode: str
    parallel: int
    gpus: list[str] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)


class TrialStarted(Record, frozen=True, kw_only=True, tag="tune.started"):
    """A trial's run begins."""

    number: int
    run: str
    parameters: dict[str, Any]


class TrialMoved(Record, frozen=True, kw_only=True, tag="tune.moved"):
    """How far the search is: whole trials, and the epochs of those that run."""

    study: str
    done: float
    trials: int


class TrialEnded(Record, frozen=True, kw_only=True, tag="tune.ended"):
    """A trial is over."""

    trial: TrialRow
    best: bool
    trials: int


class Tuned(Result, frozen=True, kw_only=True, tag="tune.result"):
    """A study: its trials and the best one."""

    study: str
    state: str  # finished, running or stopped
    wanted: int
    monitor: str
    mode: str
    trials: list[TrialRow]
    best: TrialRow | None = None
    importance: dict[str, float] = msgspec.field(default_factory=dict)
    html: str = ""  # file of the page, when one was written
    next: str = ""

    def headline(self) -> str:
        """Give the run of the best trial."""
        return self.best.run if self.best else ""
