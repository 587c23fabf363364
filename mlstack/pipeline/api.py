"""Bring stale stages up to date."""

from collections.abc import Iterator
from dataclasses import dataclass

from mlstack import files
from mlstack.call import Call
from mlstack.config import Project, load
from mlstack.errors import ConfigError, DataError
from mlstack.launch import git
from mlstack.pipeline import execute, fresh, labels, pipefile
from mlstack.pipeline.fresh import Look
from mlstack.pipeline.result import (
    DryRun,
    PipelineRewritten,
    Ran,
    StageOutcome,
    StagePlan,
    StageStarts,
)
from mlstack.pipeline.stages import LABELS, PREPARE, Stage, closure, stages
from mlstack.pipeline.typed import Manner
from mlstack.records.base import Record
from mlstack.records.dataset_hash import is_packed
from mlstack.records.layout import Layout

SAME_AGAIN = (LABELS, PREPARE)  # made anew, they may well give what they gave before


@dataclass(frozen=True)
class Wish:
    """Which stages are asked for."""

    stage: str | None = None  # with what it needs; None asks for all
    only: bool = False  # just that one, stale or not
    force: bool = False  # that one, or all, though up to date


def answer(call: Call, wish: Wish, *, retries: int, dry: bool) -> Iterator[Record]:
    """Do what was typed, with `--dry` only say it."""
    project = load(call.config, sets=call.sets)
    if dry:
        yield plan(project, wish)
        return
    options = ["--config", str(call.config.resolve())]
    for item in call.sets:
        options += ["--set", item]
    is_silent = call.json or call.quiet
    yield from run(project, wish, Manner(tuple(options), is_silent=is_silent, retries=retries))


def run(project: Project, wish: Wish, manner: Manner) -> Iterator[Record]:
    """Run the stale stages among those asked for, in their order.

    Raises:
        ConfigError: there is no such stage, or dvc.yaml is not as it should be.
        BusyError: another `mlstack run` is at work.
        DataError: a stage must run, and the files of the data are in packs.
        MlstackError: a stage failed; its exit code is passed on.
    """
    _require_dvc(project)
    with files.lock(Layout(project.root).state / "run.lock", "`mlstack run`"):
        known = stages(project)
        chosen = _chosen(known, wish)
        labels.write_last_event(project.root)
        rewritten = pipefile.keep(project.root, known)
        if rewritten and execute.is_under_dvc():
            yield PipelineRewritten()
        outcomes: list[StageOutcome] = []
        look = Look(project)
        for stage in chosen:
            why = _why(look, stage, wish)
            if not why:
                result = execute.result_of(look, stage)
                outcomes.append(StageOutcome(stage=stage.name, ran=False, why="", result=result))
                continue
            if not any(outcome.ran for outcome in outcomes):
                _require_files(project)
                execute.require_valid(project.root)
            yield StageStarts(stage=stage.name, why=why, command=stage.about)
            made = yield from execute.execute(look, stage, manner, anew=_is_anew(look, stage, wish))
            outcomes.append(
                StageOutcome(stage=stage.name, ran=True, why=why, result=made.result, how=made.how)
            )
            look = Look(project)
        yield Ran(stages=outcomes)


def plan(project: Project, wish: Wish) -> DryRun:
    """Say what `run` would do, and every reason for it; nothing is run or written.

    Raises:
        ConfigError: there is no such stage, or dvc.yaml is not as it should be.
    """
    _require_dvc(project)
    look = Look(project)
    known = stages(project)
    pipefile.check(project.root, known)
    plans: dict[str, StagePlan] = {}
    for stage in _chosen(known, wish):
        before = [name for name in stage.needs if name in plans]
        verdict, why = _verdict(look, stage, wish, {n: plans[n].verdict for n in before})
        plans[stage.name] = StagePlan(
            stage=stage.name, verdict=verdict, why=why, command=stage.about
        )
    return DryRun(stages=list(plans.values()))


def _verdict(look: Look, stage: Stage, wish: Wish, before: dict[str, str]) -> tuple[str, list[str]]:
    if _is_asked(stage, wish):
        return "runs", ["asked for"]
    if why := fresh.reasons(look, stage):
        return "runs", why
    certain = [n for n, verdict in before.items() if verdict == "runs" and n not in SAME_AGAIN]
    if certain:
        return "runs", [f"it follows `{certain[0]}`"]
    possible = [name for name, verdict in before.items() if verdict != "up to date"]
    if possible:
        return "may run", [f"it follows `{possible[0]}`, if that gives something else"]
    return "up to date", []


def _why(look: Look, stage: Stage, wish: Wish) -> str:
    found = _changes(look, stage) if wish.only else fresh.reasons(look, stage)
    if not found:
        return "asked for" if _is_asked(stage, wish) else ""
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0]}{more}"


def _changes(look: Look, stage: Stage) -> list[str]:
    """Name what differs from what DVC recorded; it has recorded nothing of a new stage."""
    recorded = look.recorded(stage)
    if not recorded:
        return ["it was never run"]
    return list(fresh.differences(fresh.recorded_inputs(recorded), fresh.inputs(look, stage)))


def _is_asked(stage: Stage, wish: Wish) -> bool:
    if wish.force:
        return wish.stage in (None, stage.name)
    return wish.only


def _is_anew(look: Look, stage: Stage, wish: Wish) -> bool:
    """Tell whether what was made from the same inputs before does not count.

    `dvc repro` calls us with --only: for a stage that dvc.lock has with the very inputs of now, it
    was told to force it.
    """
    if wish.only:
        return not _changes(look, stage)
    return _is_asked(stage, wish)


def _chosen(known: list[Stage], wish: Wish) -> list[Stage]:
    names = [stage.name for stage in known]
    if wish.stage is None:
        if wish.only:
            raise ConfigError(
                "--only needs the name of a stage", hint="e.g. `mlstack run train --only`"
            )
        return known
    if wish.stage not in names:
        raise ConfigError(
            f"there is no stage `{wish.stage}`", hint=f"the stages are {', '.join(names)}"
        )
    if wish.only:
        return [stage for stage in known if stage.name == wish.stage]
    return closure(known, wish.stage)


def _require_files(project: Project) -> None:
    """Refuse to run a stage over packs: DVC records nothing of a folder that is not there."""
    source = project.config.data.folder
    if is_packed(project.root / source):
        raise DataError(
            f"the files of `{source}` are in packs, not laid out",
            hint="type `mlstack version checkout HEAD`, then `mlstack run` again",
        )


def _require_dvc(project: Project) -> None:
    if project.config.versioning.backend == "none":
        raise ConfigError(
            "versioning.backend is `none`, so there is no pipeline",
            hint="set it to `dvc`, or type `mlstack train` and `mlstack export`",
        )
    if not (project.root / pipefile.CONFIG).is_file():
        raise ConfigError(
            f"the pipeline reads {pipefile.CONFIG}, and there is none in {project.root}",
            hint=f"name the project file {pipefile.CONFIG}",
        )
    if not git.is_repository(project.root):
        git.git(project.root, "--version")  # says that git is not installed
        raise DataError(
            f"`{project.root}` is not in a git repository, so its data has no version",
            hint="type `git init`, then `mlstack version snapshot -m MESSAGE`",
        )
    if not any((folder / ".dvc").is_dir() for folder in (project.root, *project.root.parents)):
        raise DataError(
            "no data has been snapshotted here yet",
            hint='type `mlstack version snapshot -m "first data"`',
        )
