"""Stock DVC's files as mlstack reads them: `data/NAME.dvc` and the hash of a folder.

A folder's hash is the MD5 of the JSON list of `{"md5", "relpath"}` in path order, plus `.dir`
(dvc_data.hashfile.tree.Tree).
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlstack import files
from mlstack.errors import DataError


@dataclass(frozen=True)
class Pointer:
    """What `NAME.dvc` says of the folder beside it."""

    md5: str
    files: int
    size_bytes: int


@dataclass(frozen=True)
class FolderHash:
    """The content of a folder: its DVC hash, and that of each file by relative path."""

    md5: str
    entries: dict[str, str]
    size_bytes: int


def pointer_path(source: Path) -> Path:
    """Give the `.dvc` file of a dataset folder."""
    return source.with_name(source.name + ".dvc")


def read_pointer(path: Path) -> Pointer | None:
    """Read a `.dvc` file; None when there is none.

    Raises:
        DataError: it is not a `.dvc` file of one output.
    """
    if not path.is_file():
        return None
    return parse_pointer(path.read_text(), where=str(path))


def parse_pointer(content: str, *, where: str) -> Pointer:
    """Read the text of a `.dvc` file.

    Raises:
        DataError: it is not a `.dvc` file of one output.
    """
    try:
        (output,) = YAML(typ="safe", pure=True).load(content)["outs"]
        return Pointer(output["md5"], int(output.get("nfiles", 1)), int(output.get("size", 0)))
    except (YAMLError, TypeError, KeyError, ValueError) as error:
        raise DataError(
            f"`{where}` is not a .dvc file of one folder",
            hint="type `mlstack version snapshot -m MESSAGE` to write it anew",
        ) from error


def hash_folder(folder: Path) -> FolderHash:
    """Hash a folder as DVC does.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder `{folder}`")
    entries: dict[str, str] = {}
    size_bytes = 0
    for path in files.walk(folder):
        entries[path.relative_to(folder).as_posix()] = files.md5(path)
        size_bytes += path.stat().st_size
    listing = [{"md5": entries[name], "relpath": name} for name in sorted(entries)]
    content = json.dumps(listing, sort_keys=True).encode()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return FolderHash(f"{digest}.dir", entries, size_bytes)
