"""Training as a recipe: plan a run, start its ranks, follow them to the end."""

import importlib.util
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from mlstack.config import Project, load
from mlstack.errors import Interrupted, MachineError, MlstackError, StepError
from mlstack.launch import gpus, mirrors
from mlstack.launch.at_work import is_at_work
from mlstack.launch.gpus import Gpu
from mlstack.launch.moved import spec_here
from mlstack.launch.plan import PlanOptions, configured, plan
from mlstack.records.base import Record, closed
from mlstack.records.layout import Layout
from mlstack.records.run import (
    BEST,
    CHECKPOINTS,
    LAST,
    Checked,
    EpochEnded,
    Finished,
    RunSpec,
    find_run,
    read_events,
)
from mlstack.train import runs, store
from mlstack.train.places import PLACES, Events, Place, Room, folder_of
from mlstack.train.request import Request, overrides_of, refuse_contradictions
from mlstack.train.results import CheckPassed, Planned, Trained, Unlisted
from mlstack.train.resume import bring, changed, resumable

YOUNG_S = 120.0  # a folder: whoever made it may not have begun
LONG = 200_000  # examples to go through, from which a check before is nothing beside them


def start(path: Path, sets: tuple[str, ...], request: Request) -> Iterator[Record]:
    """Train, check or go on, as the request says.

    Raises:
        ConfigError: the request or the config is wrong.
        MachineError: torch, a GPU or an engine is missing.
        DataError: the data is not snapshotted, or its labels are wrong.
        StepError: a rank failed, or a check did.
        Interrupted: stopped by a signal, state saved.
    """
    refuse_contradictions(request, sets)
    if request.resume:
        project = load(path)
        yield from _resume(project, request)
        yield from _listed(project)
        return
    project = load(path, sets=() if request.from_run else sets)
    _need_engine()
    options = PlanOptions(
        allow_dirty=request.allow_dirty,
        mode="check" if request.check else "fit",
        parent=_parent(project, request),
        overrides=overrides_of(request, sets),
        command=("mlstack", *sys.argv[1:]),
    )
    yield from _begin(configured(project, options), request, options)
    yield from _listed(project)


def _begin(project: Project, request: Request, options: PlanOptions) -> Iterator[Record]:
    place = PLACES[request.on]
    _forget_killed_checks(Layout(project.root))
    with place.hold(project, request, options) as room:
        yield from room.taken(waits=request.wait)
        spec = plan(project, room.options)
        notes = _notes(spec, room)
        if request.check is None and _is_long(spec):
            if place.checks_first:
                yield from _checked(project, place, room, spec)
            else:
                notes.append(f"a long run; `mlstack train --on {request.on} --check` tries it out")
        planned = _planned(spec, room.leased, notes)
        events = place.train(project, spec, room, resume=False)
        if request.check:
            yield from _check(spec, planned, events)
        else:
            yield planned
            yield from _train(spec, events)


def _is_long(spec: RunSpec) -> bool:
    """Tell whether a run goes through so many examples that a check before it costs nothing."""
    examples: int = spec.dataset.split.get("train", 0)
    epochs: int = spec.config["train"]["epochs"]
    return examples * epochs >= LONG


def _checked(project: Project, place: Place, room: Room, planned: RunSpec) -> Iterator[Record]:
    """Check what is going to be trained; of a run that would be in vain nothing stays.

    Raises:
        StepError: a check failed.
    """
    spec = plan(project, replace(room.options, mode="check"))
    announced = _planned(spec, [], ["a long run is checked first; --no-check trains at once"])
    said = _check(spec, announced, place.train(project, spec, room, resume=False))
    passed = False
    try:
        with closed(said):
            yield from (one for one in said if not isinstance(one, CheckPassed))
        passed = True
    finally:
        if not passed:  # a check was red, or somebody typed Ctrl-C
            shutil.rmtree(folder_of(planned))


def _listed(project: Project) -> Iterator[Record]:
    """Tell the list of all runs; a server that is down fails no training."""
    if project.config.track.store == "local":
        return
    try:
        runs.shared_rows(project)
    except MlstackError as error:
        yield Unlisted(problem=error.problem)


def _resume(project: Project, request: Request) -> Iterator[Record]:
    place = PLACES[request.on]
    yield from bring(project, request.run)
    wanted = resumable(Layout(project.root), request.run, at_work=place.follows_others)
    spec = spec_here(project.root, wanted)
    is_going = place.follows_others and is_at_work(folder_of(spec))
    notes = [] if is_going else changed(project, spec, allow_dirty=request.allow_dirty)
    _need_engine()
    with place.hold_again(project, spec) as room:
        yield from room.taken(waits=request.wait)
        yield _planned(spec, room.leased, notes, resumed=True)
        yield from _train(spec, place.train(project, spec, room, resume=True))


def _train(spec: RunSpec, events: Events) -> Iterator[Record]:
    """Follow a training to its end, and let the mirrors do so, too."""
    wanted = mirrors.wanted(spec.config.get("track", {}))
    folder = folder_of(spec)
    with mirrors.following(folder, wanted), closed(events):
        yield from _follow(spec, events)
    yield from mirrors.behind(folder, wanted)


def _follow(spec: RunSpec, events: Events) -> Iterator[Record]:
    """Pass on the events of a training; end with its result."""
    end: Finished | None = None
    for event in events:
        yield event
        end = event if isinstance(event, Finished) else end
    assert end is not None, "supervise raises unless the run has finished"
    folder = folder_of(spec)
    epochs = [e for e in read_events(folder) if isinstance(e, EpochEnded)]
    best = [e for e in epochs if e.best] or epochs
    kept = folder / CHECKPOINTS / (BEST if (folder / CHECKPOINTS / BEST).exists() else LAST)
    yield Trained(
        run=spec.id,
        state="finished",
        epochs=end.epoch,
        best_epoch=best[-1].epoch if best else end.epoch,
        monitor=spec.config["train"]["monitor"],
        metrics=end.metrics,
        seconds=end.seconds,
        checkpoint=str(kept.relative_to(spec.root)),
        next=f"mlstack export {spec.id}",
    )


def _check(spec: RunSpec, planned: Planned, events: Events) -> Iterator[Record]:
    """Pass on the checks; the folder of a check that passed is of no further use."""
    checks: list[Checked] = []
    with _unless_stopped(spec), closed(events):
        yield planned
        for event in events:
            yield event
            checks.extend([event] if isinstance(event, Checked) else [])
    wrong = [check for check in checks if not check.passed]
    if wrong:
        raise StepError(
            "; ".join(f"{check.name}: {check.detail}" for check in wrong),
            hint=next((check.hint for check in wrong if check.hint), ""),
            where=str(folder_of(spec) / "logs"),
        )
    shutil.rmtree(folder_of(spec))
    yield CheckPassed(checks=checks)


@contextmanager
def _unless_stopped(spec: RunSpec) -> Iterator[None]:
    """Leave nothing of a check that is cut short; one that fails leaves its logs."""
    try:
        yield
    except Interrupted as stopped:
        _forget(spec)
        raise Interrupted(
            "the check was stopped",
            hint="nothing of it is left; type it again",
            exit_code=stopped.exit_code,
        ) from None
    except (KeyboardInterrupt, GeneratorExit):
        _forget(spec)
        raise


def _forget(spec: RunSpec) -> None:
    """Remove the folder of a check, unless a job of a cluster still works in it."""
    if not is_at_work(folder_of(spec)):
        shutil.rmtree(folder_of(spec))


def _forget_killed_checks(layout: Layout) -> None:
    """Remove what checks left that were killed: nobody lists them, and they say nothing.

    One that is planned at this moment, and is not yet at work, looks the same; it is young.
    """
    for run in store.rows(layout):
        if run.mode == "check" and run.state == "stopped":
            folder = layout.run(run.id)
            with suppress(FileNotFoundError):  # another one was quicker
                if time.time() - folder.stat().st_mtime > YOUNG_S:
                    shutil.rmtree(folder)


def _need_engine() -> None:
    for module in ("torch", "pytorch_lightning"):
        if importlib.util.find_spec(module) is None:
            raise MachineError(
                f"training needs `{module}`, which is not installed",
                hint='pip install "mlstack[train]"',
            )


def _parent(project: Project, request: Request) -> str | None:
    if request.from_run is None:
        return None
    return find_run(Layout(project.root).runs, request.from_run)


def _notes(spec: RunSpec, room: Room) -> list[str]:
    notes = []
    if spec.dataset.dirty:
        notes.append(f"data without a snapshot, known by its content hash {spec.dataset.md5}")
    if room.wanted == "auto" and not room.leased and shutil.which("nvidia-smi"):
        notes.append(f"no GPU is used: {gpus.Nvidia().lack()}")
    return notes


def _planned(
    spec: RunSpec, leased: list[Gpu], notes: list[str], *, resumed: bool = False
) -> Planned:
    return Planned(
        run=spec.id,
        dataset=spec.dataset.md5[:8],
        examples=spec.dataset.split,
        ranks=spec.ranks,
        gpus=[gpu.name for gpu in leased],
        resumed=resumed,
        notes=notes,
    )
