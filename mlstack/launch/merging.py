"""How git learns to merge `.dvc` files: an attribute that is committed, a driver of each clone."""

import shlex
import sys
from pathlib import Path

from mlstack import files
from mlstack.errors import StepError
from mlstack.launch.git import git

ATTRIBUTES = ".gitattributes"
LINE = "*.dvc merge=mlstack"
DRIVER = "merge.mlstack.driver"


def register(root: Path) -> None:
    """Tell git of the driver, in the settings of this clone; done again when Python has moved.

    Git takes the three versions that it names `%O %A %B`, and the path `%P`, quoted.
    """
    command = f"{shlex.quote(sys.executable)} -m mlstack version merge-driver %O %A %B %P"
    if _setting(root, DRIVER) != command:
        git(root, "config", "--local", "merge.mlstack.name", "versions of data, by path")
        git(root, "config", "--local", DRIVER, command)


def write_attributes(root: Path) -> Path:
    """Say in the project's `.gitattributes` who merges its `.dvc` files, unless it says so."""
    path = root / ATTRIBUTES
    text = path.read_text() if path.is_file() else ""
    if not any(_merges_pointers(line) for line in text.splitlines()):
        files.write_text(path, f"{text.rstrip()}\n{LINE}\n".lstrip())
    return path


def _merges_pointers(line: str) -> bool:
    pattern, *attributes = line.split() or [""]
    return pattern == "*.dvc" and any("merge" in one for one in attributes)


def _setting(root: Path, name: str) -> str:
    try:
        return git(root, "config", "--local", "--get", name).strip()
    except StepError:  # not set
        return ""
