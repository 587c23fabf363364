"""A package in a folder that is no project: served with the defaults."""

import json
import re
from pathlib import Path

from mlstack import config as settings
from mlstack.config import Project
from mlstack.records.base import read
from mlstack.records.package import MANIFEST, SIDE, Manifest

# Of these settings only the name is used: nothing is trained here.
SETTINGS = """
version: 1
project: {{name: {name}, task: image-classification}}
data: {{source: data}}
model: {{class: "none:None"}}
"""


def project_around(model: Path, path: Path, *, sets: tuple[str, ...]) -> Project:
    """Give the project that `serve --model` needs where there is no file at `path`.

    Raises:
        ConfigError: `sets` are wrong, or a project is in one of the folders above.
        DataError: the package cannot be read.
    """
    return settings.assume(path, SETTINGS.format(name=json.dumps(_name_of(model))), sets=sets)


def _name_of(model: Path) -> str:
    """Take the name from the package, or from the file of a graph."""
    manifest = model / SIDE / MANIFEST
    if manifest.is_file():
        return read(manifest, Manifest).model
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", model.resolve().stem).strip("-._")
    return plain or "model"
