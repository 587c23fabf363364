"""Stock DVC's files as mlstack reads them: `data/NAME.dvc` and the hash of a folder.

A folder's hash is the MD5 of the JSON list of `{"md5", "relpath"}` in path order, plus `.dir`
(dvc_data.hashfile.tree.Tree).
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlstack import files
from mlstack.errors import DataError

OWN_FOLDERS = {".git", ".hg", ".dvc"}  # what DVC never looks into
IGNORE = ".dvcignore"


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
    """Hash a folder as DVC does: dot-files too, links to files by their content.

    Raises:
        DataError: there is no such folder, or it holds something that DVC leaves out or refuses.
    """
    entries: dict[str, str] = {}
    size_bytes = 0
    for name in list_files(folder):
        entries[name] = files.md5(folder / name)
        size_bytes += (folder / name).stat().st_size
    listing = [{"md5": entries[name], "relpath": name} for name in sorted(entries)]
    content = json.dumps(listing, sort_keys=True).encode()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return FolderHash(f"{digest}.dir", entries, size_bytes)


def parse_listing(content: bytes, *, where: str) -> dict[str, str]:
    """Read a `.dir` object of DVC's cache: the MD5 of each file by its path in the folder.

    Raises:
        DataError: it is cut off or something else.
    """
    try:
        return {entry["relpath"]: entry["md5"] for entry in json.loads(content)}
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"`{where}` is not a list of files as DVC writes it",
            hint="remove it, then type `mlstack version pull`",
        ) from error


def bring_back(folder: Path) -> str:
    """Say how to get a dataset folder that is gone."""
    if pointer_path(folder).is_file():
        return "type `mlstack version checkout HEAD`, or `mlstack version pull` in a new clone"
    return "put the data there, or name the right folder in mlstack.yaml"


def is_cached(root: Path, md5: str) -> bool:
    """Tell whether every file of a version lies in the project's own cache, DVC's usual place."""
    home = next((one for one in (root, *root.parents) if (one / ".dvc").is_dir()), root)
    cache = home / ".dvc" / "cache" / "files" / "md5"
    listing = cache / md5[:2] / md5[2:]
    if not listing.is_file():
        return False
    entries = parse_listing(listing.read_bytes(), where=str(listing))
    return all((cache / one[:2] / one[2:]).is_file() for one in set(entries.values()))


def list_files(folder: Path) -> list[str]:
    """List every file that DVC sees below a folder, by its path in the folder.

    Raises:
        DataError: there is no such folder, or it holds something that DVC leaves out or refuses:
            a link to a folder or to nothing, a socket, a `.dvcignore`; or a `.dvcignore` above
            may hide its files.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder `{folder}`", hint=bring_back(folder))
    names = [path.relative_to(folder).as_posix() for path in _walk(folder)]
    _refuse_ignored(folder, names)
    return names


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - OWN_FOLDERS)
        for name in [*folders, *sorted(set(names) - {".git"})]:
            path = Path(place, name)
            if problem := _not_versionable(path):
                raise DataError(f"`{path}` {problem}", hint="replace it by files, or remove it")
            if name in names:
                yield path


def _not_versionable(path: Path) -> str:
    if path.name == IGNORE:
        return "lies inside a dataset, which DVC refuses"
    if path.is_symlink() and path.is_dir():
        return "is a link to a folder; DVC does not look into it"
    if path.is_symlink() and not path.exists():
        return "is a link to nothing"
    if not path.is_dir() and not path.is_file():
        return "is neither a file nor a folder"
    return ""


def _refuse_ignored(folder: Path, names: list[str]) -> None:
    """Refuse a dataset of which a `.dvcignore` above may hide files from DVC.

    mlstack does not follow these patterns, so hash and version would silently differ. Patterns
    that cannot touch the dataset (`.venv/`, `/notebooks/*.tmp`) are harmless.
    """
    parts = {part for name in names for part in name.split("/")}
    for above in folder.resolve().parents:
        path = above / IGNORE
        inside = folder.resolve().relative_to(above).parts
        for pattern in path.read_text().splitlines() if path.is_file() else ():
            if _may_match(pattern.strip(), parts.union(inside), inside):
                raise DataError(
                    f"`{path}`: the pattern `{pattern.strip()}` may hide files of `{folder}`",
                    hint="move those files out of the dataset and remove the pattern",
                )
        if (above / ".dvc").is_dir():
            return


def _may_match(pattern: str, parts: set[str], inside: tuple[str, ...]) -> bool:
    if not pattern or pattern.startswith(("#", "!")):
        return False
    plain = pattern.rstrip("/")
    if "\\" in plain or "**" in plain:
        return True
    if "/" in plain:
        return fnmatchcase(inside[0], plain.lstrip("/").split("/")[0])
    return any(fnmatchcase(part, plain) for part in parts)
