"""One name typed by the user -> the project's name and that of its Python package."""

import importlib.util
import keyword
import re
from dataclasses import dataclass
from pathlib import Path

from mlstack.errors import ConfigError

# Folders of a project beside its package.
FOLDERS = frozenset({"data", "deploy", "models", "tests"})


@dataclass(frozen=True)
class Names:
    """What a project and its package are called."""

    project: str
    package: str


def names_of(target: Path) -> Names:
    """Take both names from the folder's.

    Raises:
        ConfigError: nothing of it can be used as a name.
    """
    project = plain(target.name)
    package = re.sub(r"\W", "_", project.lower())
    if package[0].isdigit() or package.startswith("_") or keyword.iskeyword(package):
        package = f"p_{package.lstrip('_')}"
    if package in FOLDERS or _is_library(package):
        package += "_project"  # `torch` or `json` would hide the library of that name
    return Names(project, package)


def plain(name: str) -> str:
    """Keep of a name what a path, a URL and a YAML file carry without quotes.

    Raises:
        ConfigError: nothing is left.
    """
    kept = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-._")
    if not kept:
        raise ConfigError(
            f"`{name}` cannot name a project", hint="use letters and digits, e.g. digits-demo"
        )
    return kept


def _is_library(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None  # a mere folder has no origin
