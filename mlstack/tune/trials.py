"""The trials of a study: kept running until enough of them are over."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mlstack.config import Project
from mlstack.errors import (
    ConfigError,
    DataError,
    Interrupted,
    MachineError,
    MlstackError,
    StepError,
)
from mlstack.launch.plan import PlanOptions, Prepared, plan
from mlstack.records.base import Record
from mlstack.records.layout import Layout
from mlstack.records.run import EpochEnded, Finished, read_events
from mlstack.tune.pool import Ended, Pool
from mlstack.tune.results import TrialEnded, TrialMoved, TrialStarted
from mlstack.tune.study import Search

HOPELESS = 3  # trials that fail one after another from the start end the search


@dataclass
class Work:
    """The trials of one call of `tune`."""

    project: Project
    search: Search
    pool: Pool
    ready: Prepared
    wanted: int
    started: int = 0
    failures: list[str] = field(default_factory=list)
    pruned: set[int] = field(default_factory=set)
    epochs: dict[int, EpochEnded] = field(default_factory=dict)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)

    def trials(self) -> Iterator[Record]:
        """Keep the slots full until enough trials are over, or until the pool is asked to stop."""
        self.started = self.search.done()
        while True:
            while self.pool.has_room and self.started < self.wanted and not self.pool.wish.times:
                yield from self._begin()
            if self.pool.is_empty:
                return
            said = self.pool.next()
            if isinstance(said.what, EpochEnded):
                yield from self._epoch(said.number, said.what)
            elif isinstance(said.what, Finished):
                self.metrics[said.number] = said.what.metrics
            elif isinstance(said.what, Ended) and not self._is_cut_short(said.what):
                yield from self._end(said.number, said.what.error)

    def _is_cut_short(self, end: Ended) -> bool:
        """Tell whether a trial ended because the search shall; `settle` notes how."""
        return self.pool.wish.times > 0 and isinstance(end.error, Interrupted)

    def settle(self) -> None:
        """After an interruption, when no run is left: note how each trial ended."""
        for number in self.pruned & self.search.open_trials():
            self.search.pruned(number)
        self.search.recover(finished_value(self.project, self.search.spec.monitor))

    def _begin(self) -> Iterator[Record]:
        """Plan and start the next trial; a grid that is used up ends the search."""
        asked = self.search.ask()
        if asked is None:
            self.wanted = self.started
            return
        self.started += 1
        options = PlanOptions(
            gpus=self.pool.take(),
            overrides=asked.parameters,
            study=self.search.spec.name,
            trial=asked.number,
            command=("mlstack", *sys.argv[1:]),
            prepared=self.ready,
        )
        try:
            spec = plan(self.project, options)
        except ConfigError as error:  # these settings do not go together; others may
            yield from self._end(asked.number, error)
            return
        self.search.started(asked.number, spec.id)
        yield TrialStarted(number=asked.number, run=spec.id, parameters=asked.parameters)
        self.pool.start(asked.number, Layout(self.project.root).run(spec.id), spec)

    def _epoch(self, number: int, event: EpochEnded) -> Iterator[Record]:
        self.epochs[number] = event
        value = event.metrics.get(self.search.spec.monitor)
        hopeless = value is not None and self.search.report(number, event.epoch, value)
        if hopeless and event.epoch < event.epochs and number not in self.pruned:
            self.pruned.add(number)
            self.pool.stop(number)
        yield self._moved()

    def _end(self, number: int, error: Exception | None) -> Iterator[Record]:
        if error is not None and not isinstance(error, MlstackError):
            raise error
        value = self.metrics.get(number, {}).get(self.search.spec.monitor)
        if error is None and value is not None:
            self.search.finished(number, value)
        elif number in self.pruned and isinstance(error, Interrupted):
            self.search.pruned(number)
        else:
            self._failed(number, error)
        self.epochs.pop(number, None)
        row = self.search.rows()[number]
        best = self.search.best()
        is_best = best is not None and best.number == number
        yield TrialEnded(trial=row, best=is_best, trials=self.wanted)

    def _failed(self, number: int, error: MlstackError | None) -> None:
        monitor = self.search.spec.monitor
        problem = error.problem if error else f"it has no `{monitor}`"
        self.search.failed(number, problem)
        if isinstance(error, DataError | MachineError):
            raise error  # the next trial would meet the same
        self.failures.append(problem)
        none_ran = all(row.state in ("failed", "interrupted") for row in self.search.rows())
        if none_ran and len(self.failures) >= min(HOPELESS, self.wanted):
            raise all_failed(self.failures, error)

    def _moved(self) -> TrialMoved:
        parts = sum(event.epoch / event.epochs for event in self.epochs.values())
        done = self.search.done() + parts
        return TrialMoved(study=self.search.spec.name, done=done, trials=self.wanted)


def finished_value(project: Project, monitor: str) -> Callable[[str], float | None]:
    """Give a function that reads the best value of a run, None unless it has finished."""
    layout = Layout(project.root)

    def value(run: str) -> float | None:
        ends = [event for event in read_events(layout.run(run)) if isinstance(event, Finished)]
        return ends[-1].metrics.get(monitor) if ends else None

    return value


def all_failed(problems: list[str], error: MlstackError | None) -> StepError:
    """Make the error of a study without a single result."""
    last = problems[-1] if problems else "none reached its end"
    return StepError(
        f"every trial failed, the last one so: {last}",
        hint=(error.hint if error else "") or "type `mlstack train --check`",
        where=error.where if error else "",
    )
