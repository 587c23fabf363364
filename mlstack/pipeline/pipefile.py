"""`dvc.yaml` as mlstack keeps it, and `dvc.lock` as DVC writes it."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mlstack import files
from mlstack.errors import ConfigError, DataError
from mlstack.pipeline.splice import Edit, on_one_line, spliced
from mlstack.pipeline.stages import Stage, present

PIPELINE, LOCK, CONFIG = "dvc.yaml", "dvc.lock", "mlstack.yaml"
HEAD = """\
The stages whose command is `mlstack run STAGE --only` are kept up to date by `mlstack run`;
others are yours. `dvc repro` and `dvc status` work as in any project.
"""
THEIRS = ("meta", "frozen", "always_changed")  # what a person may add to a stage of ours
KEEP_OUT = {"cache": False}  # small files for git, or that name what lies elsewhere


def keep(root: Path, stages: list[Stage]) -> bool:
    """Bring mlstack's stages in dvc.yaml up to date; tell whether the file changed.

    Raises:
        ConfigError: the file cannot be read, or a stage of the user has the name of one of ours.
    """
    path = root / PIPELINE
    text = path.read_text() if path.is_file() else _head()
    document = _load(path, text)
    theirs = _stages(document, path)
    _refuse_namesakes(theirs, stages, path)
    wanted = render(read_config(root), stages)
    ours = {name for name, stage in theirs.items() if _is_ours(name, stage)}
    for name in ours & wanted.keys():
        wanted[name].update({key: theirs[name][key] for key in THEIRS if key in theirs[name]})
    changed = {name for name in wanted if name not in ours or theirs[name] != wanted[name]}
    gone = ours - wanted.keys()
    if not changed and not gone:
        return False
    files.write_text(path, spliced(text, document, Edit(wanted, changed, gone)))
    return True


def check(root: Path, stages: list[Stage]) -> None:
    """Refuse a dvc.yaml that `keep` would refuse.

    Raises:
        ConfigError: the file cannot be read, or a stage of the user has the name of one of ours.
    """
    path = root / PIPELINE
    if path.is_file():
        _refuse_namesakes(_stages(_load(path, path.read_text()), path), stages, path)


def render(config: dict[str, Any], stages: list[Stage]) -> dict[str, Any]:
    """Give the stages as DVC reads them."""
    rendered: dict[str, Any] = {}
    for stage in stages:
        settings = present(config, stage)
        metrics = [{file: on_one_line(KEEP_OUT)} for file in stage.metrics]
        plots = [{file: KEEP_OUT | drawn} for file, drawn in stage.plots.items()]
        rendered[stage.name] = {
            "desc": stage.about,
            "cmd": stage.cmd,
            "deps": list(stage.deps),
            **({"params": [{CONFIG: on_one_line(settings)}]} if settings else {}),
            "outs": [{file: on_one_line(KEEP_OUT)} for file in (stage.out, *stage.files)],
            **({"metrics": metrics} if metrics else {}),
            **({"plots": plots} if plots else {}),
        }
    return rendered


def read_config(root: Path) -> dict[str, Any]:
    """Read mlstack.yaml as DVC does: what is written there, and nothing else.

    Raises:
        ConfigError: it is not YAML.
    """
    path = root / CONFIG
    try:
        return YAML(typ="safe", pure=True).load(path) or {}
    except YAMLError as error:
        raise _not_yaml(path, error) from error


def read_lock(root: Path) -> dict[str, Any]:
    """Read what DVC recorded of each stage; nothing when it never recorded any.

    Raises:
        DataError: the file cannot be read, e.g. because of conflict marks.
    """
    path = root / LOCK
    if not path.is_file():
        return {}
    try:
        recorded = YAML(typ="safe", pure=True).load(path).get("stages") or {}
        return {name: dict(stage) for name, stage in recorded.items()}
    except (YAMLError, AttributeError, TypeError, ValueError) as error:
        raise DataError(
            f"`{LOCK}` cannot be read",
            hint=f"remove it; `mlstack run` writes it anew: rm {LOCK}",
            where=_place(path, error),
        ) from error


def _head() -> str:
    return "".join(f"# {line}\n" for line in HEAD.splitlines())


def _load(path: Path, text: str) -> Any:
    try:
        document = YAML().load(text)
    except YAMLError as error:
        raise _not_yaml(path, error) from error
    if document is None:
        return CommentedMap()
    if not isinstance(document, dict):
        raise ConfigError(
            f"`{path.name}` holds no stages but a {type(document).__name__}",
            hint="lines look like `stages:`; or remove it, and `mlstack run` writes it",
            where=str(path),
        )
    return document


def _stages(document: Any, path: Path) -> dict[str, Any]:
    stages = document.get("stages")
    if stages is None:
        return {}
    if not isinstance(stages, dict):
        raise ConfigError(
            f"`{path.name}`: `stages` must be names with what they run",
            hint="see https://dvc.org/doc, or remove the file",
            where=str(path),
        )
    return stages


def _refuse_namesakes(theirs: dict[str, Any], stages: list[Stage], path: Path) -> None:
    for stage in stages:
        if stage.name in theirs and not _is_ours(stage.name, theirs[stage.name]):
            raise ConfigError(
                f"{PIPELINE}: the stage `{stage.name}` is not mlstack's, but has its name",
                hint="give it another name",
                where=str(path),
            )


def _is_ours(name: str, stage: Any) -> bool:
    return isinstance(stage, dict) and stage.get("cmd") == f"mlstack run {name} --only"


def _not_yaml(path: Path, error: YAMLError) -> ConfigError:
    said = error.problem if isinstance(error, MarkedYAMLError) and error.problem else ""
    return ConfigError(
        f"`{path.name}` is not YAML" + (f": {said.splitlines()[0]}" if said else ""),
        hint="mend that line",
        where=_place(path, error),
    )


def _place(path: Path, error: Exception) -> str:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    return f"{path}:{mark.line + 1}" if mark else str(path)
