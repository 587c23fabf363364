"""The stages on one line of the status screen."""

from mlstack.config import Project
from mlstack.errors import MlstackError
from mlstack.pipeline import fresh
from mlstack.pipeline.fresh import Look
from mlstack.pipeline.result import Line
from mlstack.pipeline.stages import stages

WIDTH = 66  # the screen has 80 columns


def line(project: Project, data_md5: str) -> Line:
    """Say which stages are stale, and why the first one is.

    Args:
        project: the project; its data is snapshotted.
        data_md5: MD5 of the data as its pointer has it, so that no file of it is hashed here.
    """
    look = Look(project, {project.config.data.folder: data_md5})
    try:
        known = stages(project)
        found = {stage.name: fresh.reasons(look, stage) for stage in known}
    except MlstackError as error:
        return Line(part="stages", state=_short(error.problem), is_well=False)
    if not any(look.recorded(stage) for stage in known):
        return Line(part="stages", state=f"{', '.join(found)}: not yet by `mlstack run`")
    stale = {stage.name: bool(found[stage.name]) for stage in known}
    for stage in known:
        stale[stage.name] = stale[stage.name] or any(stale[name] for name in stage.needs)
    names = [name for name, is_stale in stale.items() if is_stale]
    if not names:
        return Line(part="stages", state=f"up to date: {', '.join(found)}")
    first = names[0]
    more = f", and {len(names) - 1} after it" if names[1:] else ""
    reason = found[first][0].replace(".mlstack/stages/", "")
    return Line(part="stages", state=_short(f"{first} is stale{more}: {reason}"))


def _short(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"
