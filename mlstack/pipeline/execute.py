"""Run one stage as the commands a person would type, and find what it made."""

import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from msgspec import structs

from mlstack import files
from mlstack.errors import BusyError, DataError, StepError
from mlstack.launch import division
from mlstack.pipeline import earlier, evaluation, fresh, labels
from mlstack.pipeline.fresh import Inputs, Look
from mlstack.pipeline.result import StageRetries, StageTakes
from mlstack.pipeline.stages import (
    EVALUATE,
    EVENTS,
    EXPORT,
    LABELS,
    PREPARE,
    TRAIN,
    Stage,
    config_slice,
    digest,
    state_file,
)
from mlstack.pipeline.typed import Manner, typed
from mlstack.records import dataset
from mlstack.records.base import Record, read, write
from mlstack.records.layout import Layout
from mlstack.records.package import numbers
from mlstack.records.run import run_ids
from mlstack.records.stage import StageBegun, StageState

LONGEST_WAIT_S = 60.0

Made = TypeVar("Made")


@dataclass(frozen=True)
class Task:
    """A stage that is to run."""

    look: Look
    stage: Stage
    manner: Manner
    inputs: Inputs  # as they are when it begins
    begun: StageBegun

    @property
    def layout(self) -> Layout:
        """Where things lie."""
        return Layout(self.look.project.root)


@dataclass(frozen=True)
class Outcome:
    """What a stage made, and how it came to it."""

    result: str
    how: str = ""  # resumed, or taken


def execute(
    look: Look, stage: Stage, manner: Manner, *, anew: bool
) -> Generator[Record, None, Outcome]:
    """Run a stage, or go on with one that was killed; write its state and give what it made.

    Args:
        look: the project as it is now.
        stage: what to run.
        manner: how commands are called.
        anew: make it again, though it was made from the same inputs before.

    Raises:
        MlstackError: a command failed; its exit code is passed on.
        StepError: something that the stage depends on changed while it ran.
    """
    inputs = fresh.inputs(look, stage)
    task = Task(look, stage, manner, inputs, _begin(look, stage, inputs, anew=anew))
    outcome = yield from _persist(task, lambda: _MAKERS[stage.name](task))
    if outcome.how == "taken":
        yield StageTakes(stage=stage.name, result=outcome.result)
    _refuse_changes(task, outcome)
    settings = digest(config_slice(stage, look.project.config))
    state = StageState(stage=stage.name, result=outcome.result, config_sha256=settings)
    write(look.project.root / stage.out, state)
    if is_under_dvc():
        write(_begun_file(look, stage), structs.replace(task.begun, anew=False))
        return outcome
    yield from _persist(task, lambda: _record(task))
    _begun_file(look, stage).unlink(missing_ok=True)
    return outcome


def is_under_dvc() -> bool:
    """Tell whether `dvc repro` runs us; then it records the stage itself."""
    return "DVC_STAGE" in os.environ


def require_valid(root: Path) -> None:
    """Refuse a dvc.yaml that DVC cannot read, before hours are spent on what it cannot record.

    Raises:
        ConfigError: it cannot.
    """
    if not is_under_dvc():
        from mlstack.pipeline import dvc_bridge  # noqa: PLC0415  0.2 s that an idle run saves

        dvc_bridge.check(root)


def result_of(look: Look, stage: Stage) -> str:
    """Give what a stage made last."""
    return read(look.project.root / stage.out, StageState).result


def _begin(look: Look, stage: Stage, inputs: Inputs, *, anew: bool) -> StageBegun:
    """Note that a stage begins; a note of the same stage with the same inputs stays.

    What a stage made before is out of date as soon as it is to be made anew: were it killed, the
    next run would take it for finished.
    """
    layout, path = Layout(look.project.root), _begun_file(look, stage)
    inputs_sha256 = digest([inputs, config_slice(stage, look.project.config)])
    before = read(path, StageBegun) if path.is_file() else None
    if before and before.inputs_sha256 == inputs_sha256 and before.anew >= anew:
        return before
    begun = StageBegun(
        stage=stage.name,
        inputs_sha256=inputs_sha256,
        last_run=max(run_ids(layout.runs), default=""),
        last_package=max(numbers(layout.model(look.project.config.project.name)), default=0),
        anew=anew,
    )
    write(path, begun)
    if anew:
        (look.project.root / stage.out).unlink(missing_ok=True)
    return begun


def _begun_file(look: Look, stage: Stage) -> Path:
    return Layout(look.project.root).stages / f"{stage.name}.begun.json"


def _persist(task: Task, act: Callable[[], Made]) -> Generator[Record, None, Made]:
    """Do something; while another process holds what it needs, wait and try again."""
    manner = task.manner
    for attempt in range(1, manner.retries + 1):
        try:
            return act()
        except BusyError as error:
            wait_s = min(manner.first_wait_s * 2 ** (attempt - 1), LONGEST_WAIT_S)
            yield StageRetries(
                stage=task.stage.name,
                problem=error.problem,
                wait_s=wait_s,
                attempt=attempt + 1,
                attempts=manner.retries + 1,
            )
            time.sleep(wait_s)
    return act()


def _record(task: Task) -> None:
    from mlstack.pipeline import dvc_bridge  # noqa: PLC0415  0.2 s that an idle run saves

    dvc_bridge.record(task.look.project.root, task.stage.name)


def _refuse_changes(task: Task, outcome: Outcome) -> None:
    """Refuse to record what was made from other inputs than those that are there now."""
    now = fresh.inputs(Look(task.look.project), task.stage)
    changed = [one for one in fresh.differences(task.inputs, now) if EVENTS not in one]
    if changed:
        raise StepError(
            f"{changed[0]} while the stage `{task.stage.name}` ran",
            hint=f"type `mlstack run` again; what it made is kept: {outcome.result}",
        )


def _make_labels(task: Task) -> Outcome:
    project = task.look.project
    counted = labels.last_event(task.layout)
    _type(task, *task.stage.commands)
    labels.write_last_event(project.root, counted)  # more may have come while it worked
    return Outcome(files.md5(project.root / project.config.data.folder / dataset.LABELS))


def _make_parts(task: Task) -> Outcome:
    _type(task, *task.stage.commands)
    split = division.write(task.look.project).split
    return Outcome(", ".join(f"{count} {part}" for part, count in split.items()))


def _make_run(task: Task) -> Outcome:
    """Take the run that was made from the same inputs, go on with it, or train."""
    found = earlier.run_of(task.look, task.stage, task.begun)
    if found and found.is_running:
        raise BusyError(
            f"run `{found.run}` of the same data, code and settings is still at work",
            hint="wait for it to end, then type `mlstack run` again",
        )
    if found and found.is_finished:
        return Outcome(found.run, how="taken")
    if found:
        _type(task, ("train", "--resume", found.run))
        return Outcome(found.run, how="resumed")
    last = max(run_ids(task.layout.runs), default="")
    _type(task, *task.stage.commands)
    made = earlier.made_since(task.look, task.stage, last)
    if made is None:
        raise StepError(
            "`mlstack train` left no finished run of these inputs",
            hint="did they change meanwhile? Type `mlstack run` again",
        )
    return Outcome(made)


def _make_evaluation(task: Task) -> Outcome:
    run = _run(task)
    _type(task, *(_filled(words, run) for words in task.stage.commands))
    project = task.look.project
    return Outcome(evaluation.write(project.root, run, project.config.data.folder))


def _make_package(task: Task) -> Outcome:
    run, name = _run(task), task.look.project.config.project.name
    if made := earlier.package_of(task.layout, name, run, task.begun):
        return Outcome(made, how="taken")
    _type(task, *(_filled(words, run) for words in task.stage.commands))
    present = numbers(task.layout.model(name))
    if not present or present[-1] <= task.begun.last_package:
        raise StepError(f"`mlstack export` left no package in models/{name}")
    return Outcome(f"{name}/{present[-1]}")


def _run(task: Task) -> str:
    """Give the run that the stage `train` made."""
    run = read(task.look.project.root / state_file(TRAIN), StageState).result
    if not task.layout.run(run).is_dir():
        raise DataError(
            f"run {run} of the stage `train` is gone", hint="type `mlstack run train --force`"
        )
    return run


def _filled(words: tuple[str, ...], run: str) -> tuple[str, ...]:
    return tuple(run if word == "{run}" else word for word in words)


def _type(task: Task, *commands: tuple[str, ...]) -> None:
    for words in commands:
        typed(task.look.project.root, words, task.manner)


_MAKERS: dict[str, Callable[[Task], Outcome]] = {
    LABELS: _make_labels,
    PREPARE: _make_parts,
    TRAIN: _make_run,
    EVALUATE: _make_evaluation,
    EXPORT: _make_package,
}
