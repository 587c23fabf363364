"""`dvc.yaml` as mlstack keeps it, and `dvc.lock` as DVC writes it."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlstack import files
from mlstack.errors import ConfigError, DataError
from mlstack.pipeline.stages import Stage, present

PIPELINE, LOCK, CONFIG = "dvc.yaml", "dvc.lock", "mlstack.yaml"
HEAD = """\
The stages whose command is `mlstack run STAGE --only` are kept up to date by `mlstack run`;
others are yours. `dvc repro` and `dvc status` work as in any project.
"""


def keep(root: Path, stages: list[Stage]) -> bool:
    """Bring mlstack's stages in dvc.yaml up to date; tell whether the file changed.

    Raises:
        ConfigError: the file cannot be read, or a stage of the user has the name of one of ours.
    """
    path = root / PIPELINE
    document = _load(path) if path.is_file() else {}
    theirs = document.setdefault("stages", {})
    for stage in stages:
        cmd = (theirs.get(stage.name) or {}).get("cmd", stage.cmd)
        if cmd != stage.cmd:
            raise ConfigError(
                f"{PIPELINE}: the stage `{stage.name}` is not mlstack's, but has its name",
                hint="give it another name",
                where=str(path),
            )
    wanted = render(_load(root / CONFIG), stages)
    ours = {name for name, stage in theirs.items() if _is_ours(name, stage)}
    if {name: theirs[name] for name in ours} == wanted:
        return False
    for name in ours - wanted.keys():
        del theirs[name]
    theirs.update(wanted)
    _store(path, document)
    return True


def render(config: dict[str, Any], stages: list[Stage]) -> dict[str, Any]:
    """Give the stages as DVC reads them."""
    rendered: dict[str, Any] = {}
    for stage in stages:
        settings = present(config, stage)
        rendered[stage.name] = {
            "desc": stage.about,
            "cmd": stage.cmd,
            "deps": list(stage.deps),
            **({"params": [{CONFIG: settings}]} if settings else {}),
            "outs": [{stage.out: {"cache": False}}],
        }
    return rendered


def read_lock(root: Path) -> dict[str, Any]:
    """Read what DVC recorded of each stage; nothing when it never recorded any.

    Raises:
        DataError: the file cannot be read, e.g. because of conflict marks.
    """
    path = root / LOCK
    if not path.is_file():
        return {}
    try:
        recorded: dict[str, Any] = YAML(typ="safe", pure=True).load(path).get("stages") or {}
    except (YAMLError, AttributeError) as error:
        raise DataError(
            f"`{LOCK}` cannot be read",
            hint=f"remove it; `mlstack run` writes it anew: rm {LOCK}",
            where=str(path),
        ) from error
    return recorded


def _is_ours(name: str, stage: Any) -> bool:
    return isinstance(stage, dict) and stage.get("cmd") == f"mlstack run {name} --only"


def _load(path: Path) -> Any:
    try:
        document = YAML().load(path)
    except YAMLError as error:
        raise ConfigError(f"`{path.name}` is not YAML", hint="mend it", where=str(path)) from error
    return document if document is not None else {}


def _store(path: Path, document: Any) -> None:
    yaml = YAML()
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    if not path.is_file():
        text.write("".join(f"# {line}\n" for line in HEAD.splitlines()))
    yaml.dump(document, text)
    files.write_text(path, text.getvalue())
