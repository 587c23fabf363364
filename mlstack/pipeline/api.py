"""Bring stale stages up to date."""

import os
from collections.abc import Iterator

from mlstack import files
from mlstack.config import Project
from mlstack.errors import ConfigError, DataError
from mlstack.pipeline import execute, fresh, labels, pipefile
from mlstack.pipeline.execute import Manner
from mlstack.pipeline.result import Ran, StageOutcome, StageStarts
from mlstack.pipeline.stages import Stage, stages
from mlstack.records.base import Record
from mlstack.records.layout import Layout


def run(project: Project, last: str | None, manner: Manner, *, only: bool) -> Iterator[Record]:
    """Run the stale stages in their order, up to `last`; with `only`, just that one, stale or not.

    Raises:
        ConfigError: there is no such stage, or dvc.yaml is not as it should be.
        MlstackError: a stage failed; its exit code is passed on.
    """
    _require_dvc(project)
    with files.lock(Layout(project.root).state / "run.lock", "`mlstack run`"):
        labels.write_last_event(project.root)
        known = stages(project)
        pipefile.keep(project.root, known)
        outcomes: list[StageOutcome] = []
        for stage in _chosen(known, last, only=only):
            recorded = pipefile.read_lock(project.root).get(stage.name)
            why = "asked for" if only else fresh.why_stale(project, stage, recorded)
            if why:
                yield StageStarts(stage=stage.name, why=why, command=stage.about)
                result = execute.execute(project, stage, manner)
                _record(project, stage)
            else:
                result = execute.result_of(project.root, stage)
            outcomes.append(StageOutcome(stage=stage.name, ran=bool(why), why=why, result=result))
        yield Ran(stages=outcomes)


def _record(project: Project, stage: Stage) -> None:
    if "DVC_STAGE" in os.environ:  # `dvc repro` is running us and records the stage itself
        return
    from mlstack.pipeline import dvc_bridge  # noqa: PLC0415  0.2 s that an idle run saves

    dvc_bridge.record(project.root, stage.name)


def _chosen(known: list[Stage], last: str | None, *, only: bool) -> list[Stage]:
    names = [stage.name for stage in known]
    if last is not None and last not in names:
        raise ConfigError(f"there is no stage `{last}`", hint=f"the stages are {', '.join(names)}")
    if only and last is None:
        raise ConfigError(
            "--only needs the name of a stage", hint="e.g. `mlstack run train --only`"
        )
    end = names.index(last) + 1 if last else len(names)
    return known[end - 1 : end] if only else known[:end]


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
    if not any((folder / ".dvc").is_dir() for folder in (project.root, *project.root.parents)):
        raise DataError(
            "no data has been snapshotted here yet",
            hint='type `mlstack version snapshot -m "first data"`',
        )
