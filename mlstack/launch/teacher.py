"""The run that another one learns from: `train.distill.run`."""

from dataclasses import replace

from mlstack.config import Project
from mlstack.errors import ConfigError, DataError
from mlstack.records import base
from mlstack.records.layout import Layout
from mlstack.records.run import BEST, CHECKPOINTS, SPEC, RunSpec, find_run


def named(project: Project) -> Project:
    """Put the whole id of the teacher into the config, so that the run can be repeated.

    Raises:
        DataError: no run, or several runs, fit; or it kept no weights.
    """
    distill = project.config.train.distill
    if distill is None:
        return project
    layout = Layout(project.root)
    run = find_run(layout.runs, distill.run)
    if not (layout.run(run) / CHECKPOINTS / BEST).is_file():
        raise DataError(
            f"train.distill.run: run `{run}` has kept no weights",
            hint="name a finished run; `mlstack train ls` lists them",
        )
    train = project.config.train
    changed = train.model_copy(update={"distill": distill.model_copy(update={"run": run})})
    return replace(project, config=project.config.model_copy(update={"train": changed}))


def refuse_other_classes(project: Project, classes: list[str]) -> None:
    """Refuse a teacher that answers with other classes.

    Raises:
        ConfigError: it does.
    """
    distill = project.config.train.distill
    if distill is None:
        return
    theirs = base.read(Layout(project.root).run(distill.run) / SPEC, RunSpec).classes
    if theirs != classes:
        raise ConfigError(
            f"train.distill.run: run `{distill.run}` knows {', '.join(theirs)}; "
            f"here the classes are {', '.join(classes)}",
            hint="name a run of the same classes",
        )
