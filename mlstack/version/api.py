"""The steps of `version`: data in and out of DVC, and what its history says."""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mlstack import files
from mlstack.config import Project
from mlstack.errors import BusyError, ConfigError, DataError
from mlstack.launch import git
from mlstack.records import dvc
from mlstack.records.base import Record
from mlstack.records.layout import Layout
from mlstack.version import content, dvc_bridge, exchange, guard, history, source
from mlstack.version.content import Content
from mlstack.version.history import Dataset, dataset_of
from mlstack.version.result import (
    CheckedOut,
    ClassChange,
    Difference,
    Log,
    LogEntry,
    Relabelled,
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
    source.refuse_absent(project)
    guard.refuse_unfit(data, message)
    with hold(project.root):
        yield Working(text=f"{data.source}: putting its files into the cache")
        top = Path(git.git(data.root, "rev-parse", "--show-toplevel").strip())
        dvc_bridge.initialise(data.root, subdir=top != data.root)
        before = _committed(data)
        guard.drop_damaged_pointer(data)
        guard.sweep(data)
        dvc_bridge.add(data.root, data.folder)
        changed = guard.changed_files(data)
        if changed:
            git.commit(data.root, changed, message)
        yield _snapshot(data, before, committed=bool(changed))


def log(project: Project, limit: int) -> Log:
    """List the versions of the dataset, newest first."""
    data = dataset_of(project)
    found = history.versions(data)[:limit]
    cache = dvc_bridge.cache_folder(data.root) if found else Path()
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


def diff(project: Project, first: str, second: str | None) -> Difference:
    """Compare two versions; without a second one, the working tree.

    Raises:
        ConfigError: git does not know a revision.
        DataError: a version's files are not in the cache.
    """
    data = dataset_of(project)
    before, after = _side(data, first), _side(data, second)
    labels_before, labels_after = before.labels(), after.labels()
    both = before.entries.keys() & after.entries.keys()
    is_table = data.label is not None
    kept = labels_before.keys() & labels_after.keys() if is_table else both  # rows, or files
    return Difference(
        dataset=data.name,
        before=before.name,
        after=after.name,
        added=sorted(after.entries.keys() - both),
        removed=sorted(before.entries.keys() - both),
        changed=sorted(path for path in both if before.entries[path] != after.entries[path]),
        relabelled=_relabelled(labels_before, labels_after, kept),
        classes=_balance(labels_before, labels_after),
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
        yield _put(data, text, commit, force=force)


def push(project: Project, *, everything: bool) -> Iterator[Record]:
    """Copy the current version, or all of them, to the remote.

    Raises:
        ConfigError: no remote is configured.
        BusyError: the remote cannot be reached.
    """
    data, remote = dataset_of(project), _remote(project)
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
    data, remote = dataset_of(project), _remote(project)
    commit = history.resolve(data, wish.revision) if wish.revision else None
    text = history.pointer_text(data, commit) if commit else _pointer_here(data)
    with hold(project.root):
        moved, asked = Moved(), bool(remote) or dvc_bridge.has_remote(data.root)
        if asked:
            yield Working(text=f"{data.source}: fetching from {remote or 'the remote of DVC'}")
            moved = yield from exchange.fetch(data, remote, text, commit)
        elif not guard.is_cached(data, text):
            raise dvc_bridge.no_remote()
        guard.require_cached(data, text)
        if commit is None:
            _put(data, text, "", force=wish.force)
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


def _snapshot(data: Dataset, before: dvc.Pointer | None, *, committed: bool) -> Snapshot:
    after = dvc.read_pointer(data.pointer)
    assert after is not None, "dvc add leaves a pointer"
    old, new = _entries(data, before), _entries(data, after) or {}
    both = new.keys() & old.keys() if old is not None else set()
    return Snapshot(
        dataset=data.name,
        md5=after.md5,
        revision=git.last_change(data.root, data.pointer) or "",
        files=after.files,
        size_bytes=after.size_bytes,
        committed=committed,
        added=len(new) - len(both) if old is not None else None,
        removed=len(old) - len(both) if old is not None else None,
        changed=sum(old[p] != new[p] for p in both) if old is not None else None,
    )


def _entries(data: Dataset, pointer: dvc.Pointer | None) -> dict[str, str] | None:
    """List the files of a version; none for no version, None when it is not in the cache."""
    if pointer is None:
        return {}
    try:
        cache = dvc_bridge.cache_folder(data.root)
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


def _side(data: Dataset, revision: str | None) -> Content:
    if revision is None:
        return content.of_folder(data)
    commit = history.resolve(data, revision)
    pointer = dvc.parse_pointer(history.pointer_text(data, commit), where=revision)
    cache = dvc_bridge.cache_folder(data.root)
    return content.of_version(cache, pointer.md5, revision, data.label)


def _relabelled(before: dict[str, str], after: dict[str, str], both: set[str]) -> list[Relabelled]:
    paths = sorted(path for path in both if before.get(path) != after.get(path))
    return [Relabelled(path=p, before=before.get(p), after=after.get(p)) for p in paths]


def _balance(before: dict[str, str], after: dict[str, str]) -> list[ClassChange]:
    old, new = Counter(before.values()), Counter(after.values())
    return [
        ClassChange(name=name, before=old[name], after=new[name])
        for name in sorted(old.keys() | new.keys())
    ]


def _put(data: Dataset, text: str, commit: str, *, force: bool) -> CheckedOut:
    pointer = guard.require_cached(data, text)
    if not force:
        guard.refuse_to_destroy(data)
    files.write_text(data.pointer, text)
    dvc_bridge.checkout(data.root, data.pointer)
    head = _committed(data)
    return CheckedOut(
        newest=head is not None and head.md5 == pointer.md5,
        dataset=data.name,
        revision=commit,
        md5=pointer.md5,
        files=pointer.files,
    )


def _pointer_here(data: Dataset) -> str:
    if not data.pointer.is_file():
        raise DataError(
            f"there is no `{data.source}.dvc` that says what to pull",
            hint="type `git pull`, or `mlstack version pull REVISION`",
        )
    return data.pointer.read_text()


def _remote(project: Project) -> str | None:
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
