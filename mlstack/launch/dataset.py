"""Which data a run reads, and whether that is a version anybody can get back to."""

import shutil
from pathlib import Path

from mlstack import files
from mlstack.config import Project
from mlstack.errors import DataError
from mlstack.launch import git
from mlstack.plurals import counted
from mlstack.records import dvc
from mlstack.records.data_folder import FolderHash
from mlstack.records.dataset import DatasetVersion
from mlstack.records.dataset_hash import hash_dataset, is_packed

SNAPSHOT = "`mlstack version snapshot -m MESSAGE`"


def resolve(project: Project, *, allow_dirty: bool) -> DatasetVersion:
    """Name the version of the project's data.

    Args:
        project: the project.
        allow_dirty: take data that is not snapshotted too, named by its content hash alone.

    Raises:
        DataError: there is no data, or it is not snapshotted.
    """
    return version_of(project, hash_source(project), allow_dirty=allow_dirty)


def source_folder(project: Project) -> Path:
    """Give the dataset folder, absolute."""
    return (project.root / project.config.data.folder).resolve()


def refill(project: Project) -> str:
    """Give the command that brings the files that a pointer or a URL names; else empty."""
    pointer = dvc.read_pointer(dvc.pointer_path(source_folder(project)))
    if pointer is None or project.config.versioning.backend == "none":
        return "mlstack version pull" if project.config.data.is_remote else ""
    cached = dvc.is_cached(project.root.resolve(), pointer.kept.md5)
    return "mlstack version checkout HEAD" if cached else "mlstack version pull"


def hash_source(project: Project) -> FolderHash:
    """Hash the project's data.

    Raises:
        DataError: there is none.
    """
    folder = source_folder(project)
    is_here = folder.is_dir() or is_packed(folder)
    hashed = hash_dataset(project.root.resolve(), project.config.data.folder) if is_here else None
    if hashed and hashed.count:
        return hashed
    raise _absent(project, folder)


def refuse_absent(project: Project) -> None:
    """Refuse to look at data that is not laid out here.

    Raises:
        DataError: the folder is missing or empty, or its files are in packs; the command that
            brings them is said.
    """
    folder = source_folder(project)
    if is_packed(folder):
        raise DataError(
            f"the files of `{project.config.data.folder}` are in packs, not laid out",
            hint="type `mlstack version checkout HEAD`",
        )
    if not folder.is_dir() or not any(one.is_file() for one in folder.rglob("*")):
        raise _absent(project, folder)


def _absent(project: Project, folder: Path) -> DataError:
    source = project.config.data.folder
    lack = f"the folder `{source}` holds no files"
    if not folder.is_dir():
        lack = f"there is no folder `{source}`"
    command = refill(project)
    if not command:
        hint = "put the data there, or name the right folder in mlstack.yaml"
        return DataError(f"data.source: {lack}", hint=hint)
    named = f"`{dvc.pointer_path(folder).relative_to(project.root.resolve())}` names its files"
    if not dvc.pointer_path(folder).is_file():
        named = f"`{project.config.data.source}` has them"
    return DataError(f"data.source: {lack}, but {named}", hint=f"type `{command}`")


def version_of(project: Project, hashed: FolderHash, *, allow_dirty: bool) -> DatasetVersion:
    """Name the version that has this content.

    Raises:
        DataError: it is not snapshotted, and `allow_dirty` is false.
    """
    source = project.config.data.folder
    needless = project.config.versioning.backend == "none"
    lack = "it is not versioned" if needless else _lack(project, hashed)
    if lack and not (allow_dirty or needless):
        raise DataError(
            f"`{source}` is not snapshotted: {lack}",
            hint=f"{_way_to_snapshot(project)}, or add --allow-dirty",
        )
    pointer = dvc.pointer_path(source_folder(project))
    return DatasetVersion(
        name=Path(source).name,
        source=source,
        md5=hashed.md5,
        stored=None if lack else _stored(pointer),
        revision=None if lack else git.last_change(project.root, pointer),
        dirty=bool(lack),
        files=hashed.count,
        size_bytes=hashed.size_bytes,
    )


def _stored(path: Path) -> str | None:
    pointer = dvc.read_pointer(path)
    return pointer.stored.md5 if pointer and pointer.stored else None


def _lack(project: Project, hashed: FolderHash) -> str:
    """Say what keeps the data from being a version; empty when nothing does."""
    path = dvc.pointer_path(source_folder(project))
    name = path.name
    pointer = dvc.read_pointer(path)
    link = files.link_on_the_way(project.root, project.config.data.folder)
    if pointer is None and link:
        return f"`{link}` is a link, and DVC does not follow links to folders"
    if pointer is None:
        return f"there is no `{name}` beside it"
    if pointer.md5 != hashed.md5:
        return f"it has changed since the last snapshot ({_counted(pointer.files, hashed)})"
    if not git.is_repository(project.root):
        if shutil.which("git") is None:
            return "git, which keeps the versions, is not installed"
        return "the project is not in a git repository"
    if git.head(project.root) is None or git.git(
        project.root, "status", "--porcelain", "--", str(path)
    ):
        return f"`{name}` is not committed"
    return ""


def _way_to_snapshot(project: Project) -> str:
    """Say what to type before a snapshot is possible, and then."""
    if link := files.link_on_the_way(project.root, project.config.data.folder):
        return f"put the folder itself at `{link}`, then type {SNAPSHOT}"
    if not git.is_repository(project.root):
        if shutil.which("git") is None:
            return f"install git, then type {SNAPSHOT}"
        return f"type `git init`, then {SNAPSHOT}"
    return SNAPSHOT


def _counted(before: int, hashed: FolderHash) -> str:
    after = hashed.count
    then = counted(before, "file")
    return then if before == after else f"{then} then, {after} now"
