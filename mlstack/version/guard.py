"""What must hold before data is snapshotted or replaced, so that nothing is ever lost."""

import re
import time
from pathlib import Path

from mlstack import files, shell
from mlstack.config import Project
from mlstack.errors import ConfigError, DataError, StepError
from mlstack.launch.git import git
from mlstack.launch.merging import ATTRIBUTES
from mlstack.plurals import counted, plural
from mlstack.records import data_folder, dvc
from mlstack.records.data_folder import FolderHash, Look
from mlstack.version import history, listing, overlap, stock, trash
from mlstack.version.history import Dataset
from mlstack.version.objects import Objects


def lacks_source(project: Project) -> bool:
    """Tell whether `version pull` means the source: a URL that no version was made of yet."""
    data = project.config.data
    return data.is_remote and not dvc.pointer_path(project.root / data.folder).is_file()


def refuse_unfit(data: Dataset, message: str) -> None:
    """Refuse a snapshot that git or DVC would refuse half-way.

    Raises:
        ConfigError: the message is empty, or git ignores the pointer.
        DataError: the folder is missing, empty, kept in git itself, or holds odd things.
    """
    if not message.strip():
        raise ConfigError("the message is empty", hint='say what changed: `-m "100 more labels"`')
    if link := files.link_on_the_way(data.root, data.source):
        raise DataError(
            f"`{link}` is a link, and DVC does not follow links to folders",
            hint="move the files into the project; `dvc cache dir PATH` moves the bulk elsewhere",
        )
    if data.name.endswith(".dvc") or ":" in data.source:
        raise DataError(
            f"DVC cannot keep a folder called `{data.source}`",
            hint="choose a name without a colon that does not end in .dvc",
        )
    overlap.refuse(data)
    if git(data.root, "ls-files", "--", f":(literal){data.source}"):
        raise DataError(
            f"git itself keeps files of `{data.source}`; DVC cannot keep them too",
            hint=f"type `git rm -r -q --cached {shell.path(data.source)}`, then try again",
        )
    if _is_ignored(data.root, data.pointer):
        raise ConfigError(
            f"git ignores `{data.source}.dvc`, so no version can be committed",
            hint=f"in .gitignore, write `/{data.source}/` instead of the pattern that hides it",
        )


LEFTOVER = re.compile(r"\.[\w-]{22}\.tmp|\..+\.[0-9a-f]{8}\.tmp")  # of DVC | of `files.py`
STALE_S = 10


def look(data: Dataset) -> Look:
    """Look at the files, after removing half-written ones that a killed dvc or mlstack left there.

    Raises:
        DataError: there are none, or one is of a kind, or has a name, that DVC cannot keep.
    """
    seen = data_folder.look(data.folder, data.index)
    stale = [path for path in map(Path, seen.fresh()) if _is_leftover(path)]
    for path in stale:
        path.unlink()
    if stale:
        seen = data_folder.look(data.folder, data.index)
    if not any(listing.names for listing in seen.listings.values()):
        raise DataError(f"`{data.source}` holds no files", hint="put the data there first")
    _refuse_no_text(seen)
    return seen


def _refuse_no_text(seen: Look) -> None:
    """Refuse names whose bytes are no UTF-8: DVC cannot add them."""
    for at, found in seen.listings.items():
        try:
            "".join([at, *found.names]).encode()
        except UnicodeEncodeError as error:
            odd = next(name for name in (*found.names, at) if not _is_text(name))
            raise DataError(
                f"the name of `{Path(seen.folder, at, odd)}` is no text in UTF-8",
                hint="rename it; `convmv` does that for many",
            ) from error


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_leftover(path: Path) -> bool:
    if not LEFTOVER.fullmatch(path.name):
        return False
    # Nobody writes now what is from the future: the clock was set back since.
    return abs(time.time() - path.stat().st_mtime) > STALE_S


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
    there = [path for path in belonging if path.is_file()]
    there += [path for path in data.pointers() if not path.is_file()]  # of another layout, once
    status = git(
        data.root, "status", "--porcelain", "-z", "-uall", "--no-renames", "--", *map(str, there)
    )
    top = git(data.root, "rev-parse", "--show-toplevel").removesuffix("\n") if status else ""
    changed = {Path(top, entry[3:]) for entry in status.split("\0")}
    return [path for path in there if path.parent.resolve() / path.name in changed]


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
    trash.bring_back(stock.cache_folder(data.root), {pointer.kept.md5})


def require_cached(
    data: Dataset, text: str, now: FolderHash | None = None, name: str = ""
) -> dvc.Pointer:
    """Refuse a version of which the cache lacks a file; what is in the trash comes back.

    Args:
        data: the dataset.
        text: the pointer of the version.
        now: what the folder holds, where that stays and need not be in the cache.
        name: of the revision that is asked for; none for the pointer in the folder.

    Raises:
        DataError: a file is missing; how many is said.
    """
    pointer = dvc.parse_pointer(text, where=f"{data.source}.dvc")
    cache = stock.cache_folder(data.root)
    md5 = pointer.kept.md5
    trash.bring_back(cache, {md5})
    absent = listing.missing(cache, pointer, now.entries if now else None, name)
    if absent:
        raise DataError(
            f"{counted(len(absent), 'file')} of version {pointer.md5[:8]} "
            f"{plural(len(absent), 'is', 'are')} not in the cache",
            hint=f"type `{f'mlstack version pull {name}'.rstrip()}`",
        )
    return pointer


def refuse_other(data: Dataset, hashed: FolderHash) -> None:
    """Refuse to commit a pointer of DVC's that names something else than what lies there.

    Raises:
        DataError: it does.
    """
    kept = dvc.read_pointer(data.pointer)
    if kept is None or kept.md5 != hashed.md5:
        raise DataError(
            f"DVC has kept {counted(kept.files if kept else 0, 'file')} of `{data.source}`, where "
            f"{counted(hashed.count, 'file')} lie now",
            hint="were they changed meanwhile? Then type it again",
        )


def refuse_occupied(data: Dataset) -> None:
    """Refuse to lay out a version where something else than a folder lies.

    Raises:
        DataError: a file, or a link to nowhere, is in the place of the folder.
    """
    place = data.folder
    if (place.exists() or place.is_symlink()) and not place.is_dir():
        kind = "a link to nowhere" if place.is_symlink() else "a file"
        raise DataError(
            f"`{data.source}` is {kind}, and no folder", hint="move it elsewhere, then try again"
        )


def refuse_to_destroy(data: Dataset, now: FolderHash, coming: dict[str, str]) -> None:
    """Refuse to replace a folder that holds a file that no snapshot holds under that name.

    Args:
        data: the dataset.
        now: what its folder holds.
        coming: what it will hold; what is there already stays, and is not replaced.

    Raises:
        DataError: there is such a file; it is named.
    """
    cache = stock.cache_folder(data.root)
    if _is_kept(data, now, coming):
        return
    packed, kept = _kept(data, cache)
    unsaved = [
        path
        for path, md5 in now.entries.items()
        if not LEFTOVER.fullmatch(Path(path).name)
        and (path, md5) not in packed
        and ((path, md5) not in kept or not listing.object_path(cache, md5).is_file())
    ]
    if unsaved:
        raise DataError(
            f"{counted(len(unsaved), 'file')} of `{data.source}` "
            f"{plural(len(unsaved), 'is', 'are')} in no snapshot, e.g. `{unsaved[0]}`",
            hint="type `mlstack version snapshot -m MESSAGE`, or repeat with --force to lose them",
        )


def _kept(data: Dataset, cache: Path) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """List path and MD5 of all files in packs that are whole, and of those that are objects."""
    packed: set[tuple[str, str]] = set()
    loose: set[tuple[str, str]] = set()
    for version in history.versions(data, everywhere=True):
        pointer = version.pointer
        if not listing.object_path(cache, pointer.kept.md5).is_file():
            continue
        if pointer.stored is None:
            loose.update(listing.read(cache, pointer.md5).items())
        elif not listing.missing(cache, pointer):
            packed.update(listing.of(cache, pointer).items())
    return packed, loose


def _is_kept(data: Dataset, now: FolderHash, coming: dict[str, str]) -> bool:
    """Tell whether the pointer names just this folder, and the cache has all that is replaced."""
    try:
        pointer = dvc.read_pointer(data.pointer)
    except DataError:
        return False
    if pointer is None or pointer.md5 != now.md5:
        return False
    cache = stock.cache_folder(data.root)
    is_here = listing.object_path(cache, pointer.md5).is_file()
    if pointer.stored is None and is_here and not listing.is_damaged(cache, pointer.md5):
        replaced = (md5 for _, md5 in listing.unlike(now.entries, coming))
        if not Objects(cache).missing(replaced):
            return True
    return is_cached(data, data.pointer.read_text())


def _is_ignored(root: Path, path: Path) -> bool:
    try:
        git(root, "check-ignore", "--quiet", "--", str(path))
    except StepError:
        return False
    return True
