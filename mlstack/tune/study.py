"""Optuna behind one door: what to try next, what is hopeless, what was best."""

import math
import os
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mlstack.config.train_sections import Choice, Dimension, IntRange, LogUniform
from mlstack.errors import ConfigError, DataError, MachineError
from mlstack.tune import space as spaces
from mlstack.tune.results import StudySpec, TrialRow

try:
    import optuna
    from optuna.storages import journal
    from optuna.trial import FrozenTrial, Trial, TrialState
except ModuleNotFoundError as error:
    raise MachineError(
        f"tuning needs `{error.name}`, which is not installed", hint='pip install "mlstack[train]"'
    ) from error

SPEC, WANTED = "mlstack", "wanted"  # attributes of the study
RUN, PROBLEM, RETRY_OF, INTERRUPTED = "run", "problem", "retry_of", "interrupted"  # of trials
SUFFIX = ".journal"
DRAWS = 5  # of the sampler, for settings that no trial had; then one is drawn at random


@dataclass(frozen=True)
class Asked:
    """What to try next."""

    number: int
    parameters: dict[str, Any]


class Search:
    """A study that is searched by one process, which holds its lock."""

    def __init__(self, study: optuna.Study, spec: StudySpec) -> None:
        self._study = study
        self.spec = spec
        self.space = spaces.from_json(spec.space)
        self._asked: dict[int, Trial] = {}

    def want(self, trials: int) -> None:
        """Remember how many trials were asked for last."""
        self._study.set_user_attr(WANTED, trials)

    def wanted(self) -> int:
        """Give how many trials were asked for last, or how many there can be if that is less."""
        asked = int(self._study.user_attrs.get(WANTED, 0))
        is_grid = self.spec.sampler == "grid"
        return int(min(asked, spaces.size(self.space) if is_grid else spaces.count(self.space)))

    def propose(self, point: dict[str, Any]) -> None:
        """Make sure that a point is tried; it comes first."""
        self._study.enqueue_trial({key: spaces.encode(value) for key, value in point.items()})

    def ask(self) -> Asked | None:
        """Give the next trial; None when every point was tried."""
        if not self._propose_untried():
            return None
        with _without_advice():
            trial = self._study.ask(_distributions(self.space))
        self._asked[trial.number] = trial
        parameters = {
            key: spaces.decode(dimension, trial.params[key])
            for key, dimension in self.space.items()
        }
        return Asked(trial.number, parameters)

    def started(self, number: int, run: str) -> None:
        """Remember the run of a trial."""
        self._asked[number].set_user_attr(RUN, run)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Note a trial's metric after an epoch; tell whether it is hopeless."""
        self._asked[number].report(value, epoch)
        return self._asked[number].should_prune()

    def finished(self, number: int, value: float) -> None:
        """End a trial that ran to its end."""
        self._tell(number, TrialState.COMPLETE, value)

    def pruned(self, number: int) -> None:
        """End a hopeless trial."""
        self._tell(number, TrialState.PRUNED, None)

    def failed(self, number: int, problem: str) -> None:
        """End a trial whose run failed."""
        self._asked[number].set_user_attr(PROBLEM, problem)
        self._tell(number, TrialState.FAIL, None)

    def recover(self, result: Callable[[str], float | None]) -> int:
        """End what was running when its search stopped; count the trials that are tried again.

        A trial whose run has finished has its value; any other is queued with its parameters.

        Args:
            result: gives the value of a run that has finished, None for any other.
        """
        every = self._study.get_trials(deepcopy=False)
        queued = {t.user_attrs.get(RETRY_OF) for t in every if t.state is TrialState.WAITING}
        for trial in (t for t in every if t.state is TrialState.RUNNING):
            run = trial.user_attrs.get(RUN, "")
            value = result(run) if run else None
            if value is not None:
                self._study.tell(trial.number, value)
                continue
            if trial.number not in queued:
                self._study.enqueue_trial(trial.params, user_attrs={RETRY_OF: trial.number})
                queued.add(trial.number)
            Trial(self._study, trial._trial_id).set_user_attr(INTERRUPTED, True)
            self._study.tell(trial.number, state=TrialState.FAIL)
        return len(queued - {None})

    def open_trials(self) -> set[int]:
        """Name the trials that were asked here and have no end yet."""
        return set(self._asked)

    def rows(self) -> list[TrialRow]:
        """List the trials in the order they were asked."""
        best = max if self.spec.mode == "max" else min
        return [_row(trial, self.space, best) for trial in self._study.get_trials(deepcopy=False)]

    def done(self) -> int:
        """Count the trials that are over; one that was broken off by a crash does not count."""
        return sum(row.state in ("finished", "pruned", "failed") for row in self.rows())

    def best(self) -> TrialRow | None:
        """Give the best trial that ran to its end."""
        finished = [row for row in self.rows() if row.state == "finished"]
        sign = 1 if self.spec.mode == "max" else -1
        return max(finished, key=lambda row: sign * (row.value or 0), default=None)

    def importance(self) -> dict[str, float]:
        """Say how much each setting matters, as shares; empty when there is too little to tell.

        PED-ANOVA: Watanabe et al., "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance
        in Arbitrary Subspaces", IJCAI 2023.
        """
        finished = [row for row in self.rows() if row.state == "finished"]
        if len(finished) < 4 or len(self.space) < 2:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        with _without_advice():
            found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return {key: float(share) for key, share in found.items()}

    def _propose_untried(self) -> bool:
        """Queue what no trial had; the same settings and seed would be the same run once more."""
        every = self._study.get_trials(deepcopy=False)
        if any(trial.state is TrialState.WAITING for trial in every):
            return True
        left: dict[str, Any] | None
        if self.spec.sampler == "grid":
            left = self._grid_left()
        elif math.isinf(spaces.count(self.space)):
            return True  # decimals do not come twice
        else:
            left = self._draw_untried(every)
        if left is not None:
            self._study.enqueue_trial(left)
        return left is not None

    def _draw_untried(self, every: list[FrozenTrial]) -> dict[str, Any] | None:
        """Ask the sampler on a copy of the study, where what is drawn in vain leaves no trial."""
        tried = [trial.params for trial in every]
        if len({tuple(sorted(point.items())) for point in tried}) >= spaces.count(self.space):
            return None
        with _without_advice():
            copy = optuna.create_study(direction=self._study.direction, sampler=self._study.sampler)
            copy.add_trials(every)
            for _ in range(DRAWS):
                point = copy.ask(_distributions(self.space)).params
                if point not in tried:
                    return point
        source = random.Random(self.spec.seed + len(every))
        while True:
            point = {k: spaces.encode(v) for k, v in spaces.draw(self.space, source).items()}
            if point not in tried:
                return point

    def _grid_left(self) -> dict[str, Any] | None:
        tried = [trial.params for trial in self._study.get_trials(deepcopy=False)]
        for point in spaces.grid(self.space, self.spec.seed):
            coded = {key: spaces.encode(value) for key, value in point.items()}
            if coded not in tried:
                return coded
        return None

    def _tell(self, number: int, state: TrialState, value: float | None) -> None:
        self._study.tell(self._asked.pop(number), value, state=state)


def create(path: Path, spec: StudySpec, trials: int) -> Search:
    """Start a study in a journal of its own.

    Raises:
        ConfigError: the sampler or the pruner is not there.
    """
    sampler, pruner = _sampler(spec, trials, asked=0), _pruner(spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        study = optuna.create_study(
            storage=_storage(path),
            study_name=spec.name,
            direction="maximize" if spec.mode == "max" else "minimize",
            sampler=sampler,
            pruner=pruner,
        )
        study.set_user_attr(SPEC, msgspec.to_builtins(spec))
    except BaseException:  # on a full disk half a journal would hide the studies before it
        path.unlink(missing_ok=True)
        raise
    return Search(study, spec)


def reopen(path: Path, trials: int) -> Search:
    """Open a study to go on with it; the caller holds its lock.

    Raises:
        DataError: the journal is damaged.
    """
    _cut_half_line(path)
    found = read(path)
    study, spec = found._study, found.spec
    study.sampler = _sampler(spec, trials, asked=len(found.rows()))
    study.pruner = _pruner(spec)
    return found


def read(path: Path) -> Search:
    """Open a study to look at it, also while another process searches.

    Raises:
        DataError: the journal is damaged.
    """
    try:
        study = optuna.load_study(storage=_storage(path), study_name=path.stem)
        spec = msgspec.convert(study.user_attrs[SPEC], StudySpec)
    except (ValueError, KeyError, msgspec.ValidationError) as error:
        raise DataError(
            f"`{path}` is not a whole journal of a study", hint="start a new one: `mlstack tune`"
        ) from error
    return Search(study, spec)


class _HeldByUs:
    """No lock for each write: one process writes, and it holds the lock of the study."""

    def acquire(self) -> bool:
        """Find it held."""
        return True

    def release(self) -> None:
        """Keep it."""


def _storage(path: Path) -> optuna.storages.BaseStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _without_advice():
        return optuna.storages.JournalStorage(
            journal.JournalFileBackend(str(path), lock_obj=_HeldByUs())  # type: ignore[arg-type]
        )


def _cut_half_line(path: Path) -> None:
    """Drop a last line that a crash cut off; Optuna would append to it and read neither."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _distributions(space: dict[str, Dimension]) -> dict[str, Any]:
    return {key: _distribution(dimension) for key, dimension in space.items()}


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    if isinstance(dimension, Choice):
        codes = [spaces.encode(value) for value in dimension.choice]
        return optuna.distributions.CategoricalDistribution(codes)
    if isinstance(dimension, IntRange):
        return optuna.distributions.IntDistribution(*dimension.int_range)
    if isinstance(dimension, LogUniform):
        return optuna.distributions.FloatDistribution(*dimension.log_uniform, log=True)
    return optuna.distributions.FloatDistribution(*dimension.uniform)


def _sampler(spec: StudySpec, trials: int, asked: int) -> optuna.samplers.BaseSampler:
    # A sampler that goes on must not draw its first points again.
    seed = spec.seed + asked
    alone = max(3, min(10, trials // 3))  # random ones that the model begins with
    with _without_advice():
        match spec.sampler:
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed, n_startup_trials=alone)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=alone)
    return optuna.samplers.RandomSampler(seed=seed)  # for a grid too, which is all proposed


def _pruner(spec: StudySpec) -> optuna.pruners.BasePruner:
    match spec.pruner:
        case "pbt":
            raise ConfigError(
                "tune.pruner: population based training is not built yet; see docs/roadmap.md",
                hint="write `pruner: median`, asha or hyperband",
            )
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=2)
        case "asha":
            return optuna.pruners.SuccessiveHalvingPruner()
        case "hyperband":
            return optuna.pruners.HyperbandPruner(max_resource=spec.epochs)
    return optuna.pruners.NopPruner()


def _row(
    trial: FrozenTrial, space: dict[str, Dimension], best: Callable[[list[float]], float]
) -> TrialRow:
    waiting = trial.system_attrs.get("fixed_params", {})
    stored = trial.params or waiting
    values = [value for value in trial.intermediate_values.values() if math.isfinite(value)]
    so_far = best(values) if values else None
    return TrialRow(
        number=trial.number,
        state=_state(trial),
        parameters={k: spaces.decode(d, stored[k]) for k, d in space.items() if k in stored},
        value=trial.value if trial.state is TrialState.COMPLETE else so_far,
        epochs=max(trial.intermediate_values, default=0),
        run=trial.user_attrs.get(RUN, ""),
        problem=trial.user_attrs.get(PROBLEM, ""),
    )


def _state(trial: FrozenTrial) -> str:
    if trial.user_attrs.get(INTERRUPTED):
        return "interrupted"
    return _STATES[trial.state]


_STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@contextmanager
def _without_advice() -> Iterator[None]:
    """Leave out Optuna's notes on parts that it calls experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
