"""One name typed by the user -> the project's name and that of its Python package."""

import importlib.util
import keyword
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from mlstack.errors import ConfigError

# Folders of a project beside its package.
FOLDERS = frozenset({"data", "deploy", "models", "tests"})
# Letters that Unicode does not take apart into a plain one and a mark.
LETTERS = str.maketrans({"ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "æ": "ae", "Æ": "Ae"})
LONGEST = 100
YES_OR_NO = frozenset({"y", "n", "yes", "no", "on", "off"})  # to YAML 1.1, which Kubernetes reads


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
    if len(project) > LONGEST:
        raise ConfigError(
            f"`{project[:20]}...` has {len(project)} characters; a project's name has {LONGEST} at "
            "most",
            hint="choose a shorter name",
        )
    if _is_no_text(project):
        project = f"p-{project}"  # `name: 2026` would be a number
    package = re.sub(r"\W", "_", project.lower())
    if package[0].isdigit() or package.startswith("_") or keyword.iskeyword(package):
        package = f"p_{package.lstrip('_')}"
    if package in FOLDERS or _is_library(package):
        package += "_project"  # `torch` or `json` would hide the library of that name
    return Names(project, package)


def _is_no_text(name: str) -> bool:
    """Tell whether YAML takes the bare name for a number, a date, a truth value or nothing."""
    return name.lower() in YES_OR_NO or not isinstance(YAML(typ="safe", pure=True).load(name), str)


def plain(name: str) -> str:
    """Keep of a name what a path, a URL and a YAML file carry without quotes.

    Raises:
        ConfigError: nothing is left.
    """
    letters = unicodedata.normalize("NFKD", name.translate(LETTERS))
    without_marks = "".join(each for each in letters if not unicodedata.combining(each))
    kept = re.sub(r"[^A-Za-z0-9_.-]+", "-", without_marks).strip("-._")
    if not kept:
        raise ConfigError(
            f"`{name}` cannot name a project", hint="use letters and digits, e.g. digits-demo"
        )
    return kept


def _is_library(package: str) -> bool:
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None  # a mere folder has no origin
