"""What else DVC keeps that a new dataset folder would lie in, or around, or be twice."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlstack import shell
from mlstack.errors import DataError
from mlstack.launch.git import git
from mlstack.records import dvc
from mlstack.records.dvc_config import find_home
from mlstack.version.history import Dataset

STAGES = "dvc.yaml"
KINDS = ("outs", "metrics", "plots")  # what a stage writes
TEMPLATED = re.compile(r"\$\{|://")  # filled in by DVC, or kept elsewhere


def refuse(data: Dataset) -> None:
    """Refuse a first version of what DVC keeps already: it takes no file from two places.

    Raises:
        DataError: there is such an output; the file that names it is said.
    """
    home = find_home(data.root)
    if home is None or data.pointer.is_file():
        return
    for place in _files(home.parent, data):
        for output in _outputs(place):
            if output.is_relative_to(data.folder) or data.folder.is_relative_to(output):
                raise _refused(data, place, output)


def _files(top: Path, data: Dataset) -> Iterator[Path]:
    """List what names outputs: what git knows, and new pointers in, beside and above the folder."""
    patterns = (":(top,glob)**/*.dvc", f":(top,glob)**/{STAGES}")
    listed = git(data.root, "ls-files", "-z", "--", *patterns).split("\0")
    known = [Path(os.path.normpath(data.root / name)) for name in listed if name]
    near = [one for one in (data.folder, *data.folder.parents) if one.is_relative_to(top)]
    beside = [path for folder in near for path in sorted(folder.glob("*.dvc"))]
    own = data.pointers()
    for path in dict.fromkeys([*known, *beside]):
        if path not in own and path.is_file():
            yield path


def _outputs(place: Path) -> Iterator[Path]:
    """Give the outputs that a file names; a file that cannot be read names none."""
    try:
        document = dvc.load_document(place.read_text())
    except (ValueError, OSError):
        return
    named = document if isinstance(document, dict) else {}
    stages = named.get("stages") if place.name == STAGES else {"": named}
    for stage in stages.values() if isinstance(stages, dict) else ():
        if isinstance(stage, dict):
            folder = place.parent / str(stage.get("wdir", "."))
            for name in _names(stage):
                yield Path(os.path.normpath(folder / name))


def _names(stage: dict[str, Any]) -> Iterator[str]:
    for kind in KINDS:
        listed = stage.get(kind)
        for one in listed if isinstance(listed, list) else ():
            keys = [one.get("path", next(iter(one), "")) if isinstance(one, dict) else one]
            yield from (str(key) for key in keys if key and not TEMPLATED.search(str(key)))


def _refused(data: Dataset, place: Path, output: Path) -> DataError:
    said, kept = (os.path.relpath(path, data.root) for path in (place, output))
    hint = f"type `dvc remove {shell.path(said)}`, then try again"
    if place.name == STAGES:
        hint = f"take it out of `{said}`, or name another folder in data.source"
    elif data.folder.is_relative_to(output) and output != data.folder:
        hint = f"write `{kept}` in data.source, or type `dvc remove {shell.path(said)}`"
    return DataError(f"`{said}` keeps `{kept}` already, and DVC keeps no file twice", hint=hint)
