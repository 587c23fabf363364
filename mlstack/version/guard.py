"""What must hold before data is snapshotted or replaced, so that nothing is ever lost."""

import re
import time
from pathlib import Path

from mlstack.errors import ConfigError, DataError, StepError
from mlstack.launch.git import git
from mlstack.launch.merging import ATTRIBUTES
from mlstack.records import dvc
from mlstack.version import content, dvc_bridge, history, trash
from mlstack.version.history import Dataset


def refuse_unfit(data: Dataset, message: str) -> None:
    """Refuse a snapshot that git or DVC would refuse half-way.

    Raises:
        ConfigError: the message is empty, or git ignores the pointer.
        DataError: the folder is missing, empty, kept in git itself, or holds odd things.
    """
    if not message.strip():
        raise ConfigError("the message is empty", hint='say what changed: `-m "100 more labels"`')
    if link := _link_on_the_way(data):
        raise DataError(
            f"`{link}` is a link, and DVC does not follow links to folders",
            hint="move the files into the project; `dvc cache dir PATH` moves the bulk elsewhere",
        )
    if not dvc.list_files(data.folder):
        raise DataError(f"`{data.source}` holds no files", hint="put the data there first")
    if git(data.root, "ls-files", "--", data.source):
        raise DataError(
            f"git itself keeps files of `{data.source}`; DVC cannot keep them too",
            hint=f"type `git rm -r -q --cached {data.source}`, then try again",
        )
    if _is_ignored(data.root, data.pointer):
        raise ConfigError(
            f"git ignores `{data.source}.dvc`, so no version can be committed",
            hint=f"in .gitignore, write `/{data.source}/` instead of the pattern that hides it",
        )


LEFTOVER = re.compile(r"\.[\w-]{22}\.tmp|\..+\.[0-9a-f]{8}\.tmp")  # of DVC | of `files.py`
STALE_S = 10


def sweep(data: Dataset) -> None:
    """Remove half-written files that a killed dvc or mlstack left among the data."""
    for name in dvc.list_files(data.folder):
        path = data.folder / name
        if LEFTOVER.fullmatch(path.name) and path.stat().st_mtime < time.time() - STALE_S:
            path.unlink()


def drop_damaged_pointer(data: Dataset) -> None:
    """Remove a pointer that nobody can read, so that DVC writes it anew."""
    try:
        dvc.read_pointer(data.pointer)
    except DataError:
        data.pointer.unlink()


def changed_files(data: Dataset) -> list[Path]:
    """List the files that belong to a snapshot and differ from the last commit."""
    above = [data.root, *data.root.parents]
    home = next(folder for folder in above if (folder / ".dvc").is_dir())
    belonging = [
        data.pointer,
        data.pointer.with_name(".gitignore"),
        home / ".dvc" / "config",
        home / ".dvc" / ".gitignore",
        home / ".dvcignore",
        data.root / ATTRIBUTES,
    ]
    return [
        path
        for path in belonging
        if path.is_file() and git(data.root, "status", "--porcelain", "--", str(path))
    ]


def is_cached(data: Dataset, text: str) -> bool:
    """Tell whether the cache holds every file of a version."""
    try:
        require_cached(data, text)
    except DataError:
        return False
    return True


def untrash(data: Dataset, text: str) -> None:
    """Bring back from the trash what a version needs, so that it need not be fetched."""
    pointer = dvc.parse_pointer(text, where=f"{data.source}.dvc")
    trash.bring_back(dvc_bridge.cache_folder(data.root), {pointer.md5})


def require_cached(data: Dataset, text: str) -> dvc.Pointer:
    """Refuse a version of which the cache lacks a file; what is in the trash comes back.

    Raises:
        DataError: a file is missing; how many is said.
    """
    pointer = dvc.parse_pointer(text, where=f"{data.source}.dvc")
    cache = dvc_bridge.cache_folder(data.root)
    trash.bring_back(cache, {pointer.md5})
    entries = content.of_version(cache, pointer.md5, pointer.md5[:8]).entries
    absent = [m for m in set(entries.values()) if not content.object_path(cache, m).is_file()]
    if absent:
        raise DataError(
            f"{len(absent)} files of version {pointer.md5[:8]} are not in the cache",
            hint="type `mlstack version pull`",
        )
    return pointer


def refuse_to_destroy(data: Dataset) -> None:
    """Refuse to replace a folder that holds a file that no snapshot holds under that name.

    Raises:
        DataError: there is one; it is named.
    """
    if not data.folder.is_dir():
        return
    cache = dvc_bridge.cache_folder(data.root)
    kept: set[tuple[str, str]] = set()
    for version in history.versions(data, everywhere=True):
        if content.object_path(cache, version.pointer.md5).is_file():
            kept.update(content.of_version(cache, version.pointer.md5, "").entries.items())
    unsaved = [
        path
        for path, md5 in dvc.hash_folder(data.folder).entries.items()
        if not LEFTOVER.fullmatch(Path(path).name)
        and ((path, md5) not in kept or not content.object_path(cache, md5).is_file())
    ]
    if unsaved:
        raise DataError(
            f"{len(unsaved)} files of `{data.source}` are in no snapshot, e.g. `{unsaved[0]}`",
            hint="type `mlstack version snapshot -m MESSAGE`, or repeat with --force to lose them",
        )


def _link_on_the_way(data: Dataset) -> str:
    for part in (Path(data.source), *Path(data.source).parents):
        if part.name and (data.root / part).is_symlink():
            return part.as_posix()
    return ""


def _is_ignored(root: Path, path: Path) -> bool:
    try:
        git(root, "check-ignore", "--quiet", "--", str(path))
    except StepError:
        return False
    return True
