"""Read mlstack.yaml and what overrides it; report every mistake at once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from mlstack.config.schema import Config
from mlstack.errors import ConfigError


@dataclass(frozen=True)
class Project:
    """The folder with mlstack.yaml, and what is in force there."""

    root: Path
    config: Config
    origins: dict[str, str] = field(default_factory=dict)


def load(path: Path, *, sets: tuple[str, ...] = ()) -> Project:
    """Read the project file at `path`, overridden by the environment and `sets`.

    Raises:
        ConfigError: anything is wrong; `mistakes` names all of it.
    """
    if not path.is_file():
        raise ConfigError(
            f"there is no `{path}` here", hint="cd into a project, or type `mlstack init NAME`"
        )
    document: Any = YAML(typ="safe").load(path)
    for item in sets:
        key, _, value = item.partition("=")
        place = document
        *parents, last = key.split(".")
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = YAML(typ="safe").load(value)
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise ConfigError(str(error)) from error
    return Project(root=path.resolve().parent, config=config)
