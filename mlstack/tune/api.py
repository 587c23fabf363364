"""Tuning as a recipe: ask what to try, run it, report every epoch, tell how it ended."""

import importlib.util
import random
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mlstack import files
from mlstack.config import Project, load
from mlstack.errors import ConfigError, DataError, Interrupted, MachineError
from mlstack.launch import leases, mirrors, user_source
from mlstack.launch.gpus import Gpu
from mlstack.launch.plan import PlanOptions, Prepared, configured, prepare
from mlstack.launch.supervise import listen
from mlstack.launch.waiting import taken
from mlstack.plurals import counted
from mlstack.records.base import Record
from mlstack.records.layout import Layout
from mlstack.tune import html, values
from mlstack.tune import space as spaces
from mlstack.tune import study as studies
from mlstack.tune.pool import Pool
from mlstack.tune.request import Request, refuse_contradictions, slots, wanted_gpus
from mlstack.tune.results import StudySpec, StudyStarted, Tuned
from mlstack.tune.study import Search
from mlstack.tune.trials import Work, all_failed, finished_value

ON_CPU = "--gpus 0 tunes on the CPU"


def start(path: Path, sets: tuple[str, ...], request: Request) -> Iterator[Record]:
    """Start a study, or go on with one, until it has the trials that are wanted.

    Raises:
        ConfigError: the request, the config or the space is wrong.
        MachineError: a library or a GPU is missing.
        DataError: the data is not snapshotted, its labels or its files are wrong.
        StepError: every trial failed.
        BusyError: another process searches this study, or others use the GPUs.
        Interrupted: stopped by a signal; `--resume` goes on.
    """
    refuse_contradictions(request)
    project = load(path, sets=sets)
    _need_engine()
    spaces.check(project.config.tune.space, project.config.tune.sampler)
    name = _newest(project, request.study) if request.resume else _new_name()
    journal = _journal(project, name)
    with (
        files.lock(_lock(journal), f"study `{name}`"),
        leases.claim(
            wanted_gpus(project, request),
            f"`mlstack tune` in {project.root.name}",
            least=project.config.tune.gpus_per_trial,
        ) as claimed,
    ):
        yield from taken(claimed, waits=request.wait, otherwise=ON_CPU)
        ready = prepare(project, allow_dirty=request.allow_dirty)
        wanted = _wanted(project, request, journal)
        free = slots(claimed.taken, project.config.tune.gpus_per_trial)
        if not request.resume:
            values.check(project, project.config.tune.space, free[0])
        search = _open(project, journal, wanted, resume=request.resume)
        finished = finished_value(project, search.spec.monitor)
        recovered = search.recover(finished) if request.resume else 0
        search.want(wanted)
        notes = _notes(ready, recovered)
        if search.wanted() < wanted:
            wanted = search.wanted()
            what = "the grid" if search.spec.sampler == "grid" else "tune.space"
            notes.append(f"{what} has no more than {counted(wanted, 'point')}")
        yield _study_started(search, wanted, free, notes)
        work = Work(project, search, Pool(free), ready, wanted)
        try:
            with listen(work.pool.wish, hangup=True), work.pool:
                yield from work.trials()
        except GeneratorExit:  # whoever showed it is gone, and with it the terminal
            work.settle()
            raise
        if work.pool.wish.times and search.done() < work.wanted:
            work.settle()
            raise _stopped(search, wanted, work.pool.wish.exit_code)
        folders = [Layout(project.root).run(row.run) for row in search.rows() if row.run]
        yield from mirrors.catch_up(folders, dict.fromkeys(project.config.track.mirror, ""))
        found = _result(search, wanted, "finished")
        if found.best is None:
            raise all_failed([row.problem for row in found.trials if row.problem], None)
        yield found


def show(path: Path, sets: tuple[str, ...], name: str | None, place: Path | None = None) -> Tuned:
    """Show a study, the newest one unless named, also while it is searched; draw its page.

    Raises:
        DataError: there is no such study.
    """
    project = load(path, sets=sets)
    journal = _journal(project, _newest(project, name))
    search = studies.read(journal)
    running = files.is_locked(_lock(journal))
    state = "running" if running else "finished" if _is_over(search) else "stopped"
    found = _result(search, search.wanted(), state)
    if place is None:
        return found
    found = msgspec.structs.replace(found, html=str(place))
    files.write_text(place, html.page(found))
    return found


def _wanted(project: Project, request: Request, journal: Path) -> int:
    """Say how many trials there shall be: as typed now, or when a study began that is not over."""
    if request.trials is not None:
        return request.trials
    if request.resume:
        begun = studies.read(journal)
        if begun.wanted() and not _is_over(begun):
            return begun.wanted()
    return project.config.tune.trials


def _open(project: Project, journal: Path, trials: int, *, resume: bool) -> Search:
    config = project.config
    space = config.tune.space
    if resume:
        search = studies.reopen(journal, trials)
        if (
            search.spec.space != spaces.to_json(space)
            or search.spec.monitor != config.train.monitor
        ):
            raise ConfigError(
                f"tune.space or train.monitor is not what study `{journal.stem}` began with",
                hint="leave --resume away to start a new study",
            )
        return search
    spec = StudySpec(
        name=journal.stem,
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        space=spaces.to_json(space),
        sampler=config.tune.sampler,
        pruner=config.tune.pruner,
        monitor=config.train.monitor,
        mode=config.train.mode,
        epochs=config.train.epochs,
        seed=config.project.seed,
    )
    first = spaces.draw(space, random.Random(spec.seed))
    tried = configured(project, PlanOptions(overrides=first))  # refuses settings that are none
    user_source.check(tried.root, tried.config)  # and arguments that no class takes
    search = studies.create(journal, spec, trials)
    present = values.present(project, list(space))
    if spec.sampler != "grid" and spaces.contains(space, present):
        search.propose(present)  # what mlstack.yaml says is the first to be compared with
    return search


def _is_over(search: Search) -> bool:
    return search.done() >= search.wanted()


def _study_started(
    search: Search, wanted: int, free: list[tuple[Gpu, ...]], notes: list[str]
) -> StudyStarted:
    spec = search.spec
    return StudyStarted(
        study=spec.name,
        trials=wanted,
        done=search.done(),
        sampler=spec.sampler,
        pruner=spec.pruner,
        monitor=spec.monitor,
        mode=spec.mode,
        parallel=len(free),
        gpus=[gpu.name for slot in free for gpu in slot],
        notes=notes,
    )


def _notes(ready: Prepared, recovered: int) -> list[str]:
    notes = []
    if ready.dataset.dirty:
        notes.append(f"data without a snapshot, known by its content hash {ready.dataset.md5}")
    if recovered:
        trials = counted(recovered, "broken-off trial is", "broken-off trials are")
        notes.append(f"{trials} tried again with the same settings")
    return notes


def _result(search: Search, wanted: int, state: str) -> Tuned:
    best, rows = search.best(), search.rows()
    if state == "stopped":  # a killed search could not note what it broke off
        rows = [
            msgspec.structs.replace(row, state="interrupted") if row.state == "running" else row
            for row in rows
        ]
    return Tuned(
        study=search.spec.name,
        state=state,
        wanted=wanted,
        monitor=search.spec.monitor,
        mode=search.spec.mode,
        trials=rows,
        best=best,
        importance=search.importance(),
        next=f"mlstack train --from-run {best.run}" if best else "",
    )


def _stopped(search: Search, wanted: int, code: int) -> Interrupted:
    name = search.spec.name
    return Interrupted(
        f"study `{name}` was stopped after {search.done()} of {counted(wanted, 'trial')}",
        hint=f"`mlstack tune {name} --resume` goes on",
        exit_code=code,
    )


def _newest(project: Project, name: str | None) -> str:
    """Resolve a study's name, a part of one, or None for the newest."""
    folder = Layout(project.root).studies
    names = sorted(path.stem for path in folder.glob(f"*{studies.SUFFIX}"))
    fitting = names[-1:] if name is None else [n for n in names if name in n]
    if len(fitting) != 1:
        what = "there is no study" if not names else f"{len(fitting)} studies fit `{name}`"
        raise DataError(what, hint="type `mlstack tune`" if not names else f"one of {_few(names)}")
    return fitting[0]


def _few(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names[-3:])


def _new_name() -> str:
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _journal(project: Project, name: str) -> Path:
    return Layout(project.root).studies / f"{name}{studies.SUFFIX}"


def _lock(journal: Path) -> Path:
    return journal.with_suffix(".lock")


def _need_engine() -> None:
    for module in ("torch", "pytorch_lightning"):
        if importlib.util.find_spec(module) is None:
            raise MachineError(
                f"tuning needs `{module}`, which is not installed",
                hint='pip install "mlstack[train]"',
            )
