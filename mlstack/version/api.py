"""The steps of `version`: data in and out of DVC, and what its history says."""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mlstack import files
from mlstack.config import Project
from mlstack.errors import BusyError, ConfigError, DataError
from mlstack.launch import git, merging
from mlstack.records import data_folder, dvc
from mlstack.records.base import Record
from mlstack.records.data_folder import Changes, FolderHash, Look, compare
from mlstack.records.dvc_config import find_home
from mlstack.records.layout import Layout
from mlstack.version import (
    content,
    exchange,
    guard,
    history,
    intake,
    placement,
    pointer,
    source,
    stock,
)
from mlstack.version.history import Dataset, dataset_of
from mlstack.version.result import (
    CheckedOut,
    Log,
    LogEntry,
    Snapshot,
    Transferred,
    Working,
)
from mlstack.version.transfer import Moved


def snapshot(project: Project, message: str) -> Iterator[Record]:
    """Put the dataset into DVC and commit its pointer.

    Raises:
        ConfigError: no git repository, an empty message, or git ignores the pointer.
        DataError: the folder is missing, empty, in git itself, or holds what DVC cannot keep.
    """
    data = dataset_of(project)
    guard.refuse_unfit(data, message)
    with hold(project.root):
        yield Working(text=f"{data.source}: putting its files into the cache")
        if find_home(data.root) is None:
            top = Path(git.git(data.root, "rev-parse", "--show-toplevel").strip())
            stock.bridge().initialise(data.root, subdir=top != data.root)
        merging.register(data.root)
        merging.write_attributes(data.root)
        before = _committed(data)
        guard.drop_damaged_pointer(data)
        seen, hashed = yield from _take(data)
        changed = guard.changed_files(data)
        if changed:
            git.commit(data.root, changed, message)
        yield _snapshot(data, before, seen, hashed, committed=bool(changed))


def log(project: Project, limit: int) -> Log:
    """List the versions of the dataset, newest first."""
    data = dataset_of(project)
    found = history.versions(data)[:limit]
    cache = stock.cache_folder(data.root) if found else Path()
    current = dvc.read_pointer(data.pointer)
    return Log(
        dataset=data.name,
        current=current.md5 if current else None,
        versions=[
            LogEntry(
                revision=version.revision,
                date=version.date,
                author=version.author,
                message=version.message,
                md5=version.pointer.md5,
                files=version.pointer.files,
                size_bytes=version.pointer.size_bytes,
                classes=_classes(cache, version.pointer.md5, data.label),
            )
            for version in found
        ],
    )


def checkout(project: Project, revision: str, *, force: bool) -> Iterator[Record]:
    """Put the data of a version into the folder; the code stays as it is.

    Raises:
        ConfigError: git does not know the revision.
        DataError: the folder holds data that is in no snapshot, or the version is not here.
    """
    data = dataset_of(project)
    commit = history.resolve(data, revision)
    text = history.pointer_text(data, commit)
    with hold(project.root):
        yield Working(text=f"{data.source}: checking out {commit[:7]}")
        yield (yield from _put(data, text, commit, force=force))


def push(project: Project, *, everything: bool) -> Iterator[Record]:
    """Copy the current version, or all of them, to the remote.

    Raises:
        ConfigError: no remote is configured.
        BusyError: the remote cannot be reached.
    """
    data, remote = dataset_of(project), remote_of(project)
    with hold(project.root):
        yield Working(text=f"{data.source}: pushing to {remote or 'the remote of DVC'}")
        moved = yield from exchange.push(data, remote, everything=everything)
    yield Transferred(
        dataset=data.name,
        direction="push",
        remote=remote or "",
        objects=moved.objects,
        size_bytes=moved.size_bytes,
    )


@dataclass(frozen=True)
class Pull:
    """What is pulled, and from where."""

    revision: str | None = None  # only into the cache; None puts the current one into the folder
    force: bool = False  # lose data that is in no snapshot
    from_source: bool = False  # from the URL in `data.source`, not from the remote


def pull(project: Project, wish: Pull) -> Iterator[Record]:
    """Fetch a version from the remote; without a revision, put the current one into the folder.

    Data that no version names yet is copied from the URL in `data.source`.

    Raises:
        ConfigError: no remote is configured, git does not know the revision, or it is asked for
            together with the source.
        DataError: the folder holds data that is in no snapshot.
        BusyError: the remote cannot be reached.
    """
    if wish.revision and wish.from_source:
        raise ConfigError("a source has no revisions", hint="leave out one of the two")
    if wish.from_source or (source.is_meant(project) and not wish.revision):
        yield from source.copy(project, force=wish.force)
        return
    data, remote = dataset_of(project), remote_of(project)
    commit = history.resolve(data, wish.revision) if wish.revision else None
    text = history.pointer_text(data, commit) if commit else _pointer_here(data)
    merging.register(project.root)
    with hold(project.root):
        moved, asked = Moved(), bool(remote) or _has_remote(data)
        if asked:
            guard.is_cached(data, text)  # what is in the trash need not be fetched
            yield Working(text=f"{data.source}: fetching from {remote or 'the remote of DVC'}")
            moved = yield from exchange.fetch(data, remote, text, commit)
        elif not guard.is_cached(data, text):
            raise stock.bridge().no_remote()
        guard.require_cached(data, text)
        if commit is None:
            yield from _put(data, text, "", force=wish.force)
    yield Transferred(
        dataset=data.name,
        direction="pull",
        remote=remote or "",
        objects=moved.objects,
        size_bytes=moved.size_bytes,
        asked=asked,
    )


def hold(root: Path) -> AbstractContextManager[None]:
    """Keep other commands from changing the versions of this project meanwhile."""
    return files.lock(Layout(root).state / "version.lock", "the versions of the data")


def _take(data: Dataset) -> Generator[Record, None, tuple[Look, FolderHash]]:
    """Put the folder into the cache and write its pointer; what is unusual is left to DVC."""
    seen = guard.look(data)
    config = stock.plain(data)
    if config is None or seen.linked:
        stock.bridge().add(data.root, data.folder)
        return seen, data_folder.hash_folder(data.folder, data.index)
    with stock.hold(config):
        hashed = yield from intake.keep(seen, config)
    data_folder.remember(data.index, seen, hashed)
    pointer.write(data, hashed)
    return seen, hashed


def _snapshot(
    data: Dataset, before: dvc.Pointer | None, seen: Look, after: FolderHash, *, committed: bool
) -> Snapshot:
    changes = _changes(data, before, seen, after)
    return Snapshot(
        dataset=data.name,
        md5=after.md5,
        revision=git.last_change(data.root, data.pointer) or "",
        files=after.count,
        size_bytes=after.size_bytes,
        committed=committed,
        added=changes.added if changes else None,
        removed=changes.removed if changes else None,
        changed=changes.changed if changes else None,
    )


def _changes(
    data: Dataset, before: dvc.Pointer | None, seen: Look, after: FolderHash
) -> Changes | None:
    """Count what differs from the version before; None when its list is not in the cache."""
    if before is None:
        return Changes(added=after.count, removed=0, changed=0)
    if before.md5 == seen.before.md5:
        return compare(seen.before, after.index)
    old = _entries(data, before)
    if old is None:
        return None
    both = old.keys() & after.entries.keys()
    return Changes(
        added=after.count - len(both),
        removed=len(old) - len(both),
        changed=sum(old[path] != after.entries[path] for path in both),
    )


def _entries(data: Dataset, pointer: dvc.Pointer | None) -> dict[str, str] | None:
    """List the files of a version; none for no version, None when it is not in the cache."""
    if pointer is None:
        return {}
    try:
        cache = stock.cache_folder(data.root)
        return content.of_version(cache, pointer.md5, "").entries
    except DataError:
        return None


def _committed(data: Dataset) -> dvc.Pointer | None:
    try:
        return dvc.parse_pointer(history.pointer_text(data, "HEAD"), where="HEAD")
    except DataError:  # none yet, or one that this snapshot replaces
        return None


def _classes(cache: Path, md5: str, label: str | None) -> dict[str, int] | None:
    try:
        return content.of_version(cache, md5, "", label).classes()
    except DataError:
        return None


def _put(
    data: Dataset, text: str, commit: str, *, force: bool
) -> Generator[Record, None, CheckedOut]:
    version = guard.require_cached(data, text)
    now = guard.refuse_to_destroy(data, force=force)
    files.write_text(data.pointer, text)
    config = stock.plain(data)
    if config is None or (now and now.linked):
        stock.bridge().checkout(data.root, data.pointer)
    else:
        with stock.hold(config):
            entries = content.of_version(config.cache, version.md5, "").entries
            order = placement.Order(version.md5, entries)
            yield from placement.place(data, config, order, now=now)
        pointer.ignore(data)
    head = _committed(data)
    return CheckedOut(
        newest=head is not None and head.md5 == version.md5,
        dataset=data.name,
        revision=commit,
        md5=version.md5,
        files=version.files,
    )


def _has_remote(data: Dataset) -> bool:
    config = stock.plain(data)
    if config is None:
        return bool(stock.bridge().has_remote(data.root))
    return bool(config.remote or config.remotes)


def _pointer_here(data: Dataset) -> str:
    if not data.pointer.is_file():
        raise DataError(
            f"there is no `{data.source}.dvc` that says what to pull",
            hint="type `git pull`, or `mlstack version pull REVISION`",
        )
    return data.pointer.read_text()


def remote_of(project: Project) -> str | None:
    """Give the remote's URL or absolute folder; None leaves it to DVC's own settings."""
    remote = project.config.versioning.remote
    if remote is None or "://" in remote:
        return remote
    folder = (project.root / Path(remote).expanduser()).resolve()
    if not folder.parent.is_dir():
        raise BusyError(
            f"the remote `{remote}` cannot be reached: there is no `{folder.parent}`",
            hint="is the disk mounted? Then try again",
        )
    if folder.is_file():
        raise ConfigError(f"versioning.remote: `{remote}` is a file", hint="name a folder")
    return str(folder)
