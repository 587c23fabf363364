"""The steps of `version`: data in and out of DVC, and what its history says."""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from msgspec.structs import replace

from mlstack import files
from mlstack.config import Project
from mlstack.errors import DataError
from mlstack.launch import dataset, git, merging
from mlstack.records import data_folder, dvc
from mlstack.records.base import Record
from mlstack.records.data_folder import FolderHash, Look
from mlstack.records.dvc_config import find_home
from mlstack.records.folder_changes import Changes, compare
from mlstack.records.layout import Layout
from mlstack.version import (
    exchange,
    forms,
    guard,
    history,
    intake,
    listing,
    placement,
    pointer,
    stock,
)
from mlstack.version.destination import remote_of
from mlstack.version.history import Dataset, dataset_of
from mlstack.version.result import CheckedOut, Snapshot, Transferred, Working


def snapshot(project: Project, message: str) -> Iterator[Record]:
    """Put the dataset into DVC and commit its pointer.

    Raises:
        ConfigError: no git repository, an empty message, or git ignores the pointer.
        DataError: the folder is missing, empty, in git itself, or holds what DVC cannot keep.
    """
    data = dataset_of(project)
    dataset.refuse_absent(project)
    guard.refuse_unfit(data, message)
    with hold(project.root):
        yield Working(text=f"{data.source}: putting its files into the cache")
        if _lacks_dvc(data.root):
            top = Path(git.git(data.root, "rev-parse", "--show-toplevel").strip())
            stock.bridge().initialise(data.root, subdir=top != data.root)
            git.git(data.root, "add", "--", ".dvc/config")  # DVC did so before it was changed
        merging.register(data.root)
        merging.write_attributes(data.root)
        before = _committed(data)
        guard.drop_damaged_pointer(data)
        seen, hashed = yield from _take(data)
        changed = guard.changed_files(data)
        revision = git.commit(data.root, changed, message) if changed else ""
        if data.pointer not in changed:
            revision = git.last_change(data.root, data.pointer) or ""
        changes = _changes(data, before, seen, hashed)
        done = _snapshot(data, hashed, changes, revision, committed=bool(changed))
        yield replace(done, better_layout=forms.better(data, seen, hashed))


def checkout(
    project: Project, revision: str, *, force: bool, packed: bool = False
) -> Iterator[Record]:
    """Put the data of a version into the folder; the code stays as it is.

    Args:
        project: the project.
        revision: which one.
        force: lose data that is in no snapshot.
        packed: leave the files in their packs, from where `train` reads them.

    Raises:
        ConfigError: git does not know the revision.
        DataError: the folder holds data that is in no snapshot, or the version is not here.
    """
    data = dataset_of(project)
    commit = history.resolve(data, revision)
    text = history.pointer_text(data, commit)
    with hold(project.root):
        yield Working(text=f"{data.source}: checking out {commit[:7]}")
        yield (yield from put(data, text, commit, placement.Way(force, packed)))


def push(project: Project, *, everything: bool) -> Iterator[Record]:
    """Copy the current version, or all of them, to the remote.

    Raises:
        ConfigError: no remote is configured.
        DataError: there is no version yet.
        BusyError: the remote cannot be reached.
    """
    data, remote = dataset_of(project), remote_of(project)
    if not data.pointer.is_file():
        raise history.nothing_yet()
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


def hold(root: Path) -> AbstractContextManager[int]:
    """Keep other commands from changing the versions of this project meanwhile."""
    return files.lock(Layout(root).state / "version.lock", "the versions of the data")


def _lacks_dvc(root: Path) -> bool:
    """Tell whether no DVC repository is here; one around this git repository is another's."""
    home = find_home(root)
    top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), None)
    return home is None or (top is not None and not home.is_relative_to(top))


def _take(data: Dataset) -> Generator[Record, None, tuple[Look, FolderHash]]:
    """Put the folder into the cache and write its pointer; what is unusual is left to DVC."""
    seen = guard.look(data)
    if data.layout != "files":
        return seen, (yield from forms.keep(data, seen))
    config = stock.plain(data)
    if config is None or seen.linked:
        stock.bridge().add(data.root, data.folder)
        hashed = data_folder.hash_folder(data.folder, data.index)
        guard.refuse_other(data, hashed)
        return seen, hashed
    with stock.hold(config):
        hashed = yield from intake.keep(seen, config, data.noted)
    data_folder.remember(data.index, seen, hashed)
    pointer.write(data, hashed)
    return seen, hashed


def _snapshot(
    data: Dataset, after: FolderHash, changes: Changes | None, revision: str, *, committed: bool
) -> Snapshot:
    return Snapshot(
        dataset=data.name,
        md5=after.md5,
        revision=revision,
        files=after.count,
        size_bytes=after.size_bytes,
        committed=committed,
        on_branch=not committed or git.is_on_branch(data.root),
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
        return listing.of(cache, pointer)
    except DataError:
        return None


def _committed(data: Dataset) -> dvc.Pointer | None:
    try:
        return dvc.parse_pointer(history.pointer_text(data, "HEAD"), where="HEAD")
    except DataError:  # none yet, or one that this snapshot replaces
        return None


def put(
    data: Dataset, text: str, commit: str, way: placement.Way
) -> Generator[Record, None, CheckedOut]:
    """Make the folder hold the version that a pointer names, and write the pointer.

    Raises:
        ConfigError: the version has no packs in which its files could stay.
        DataError: the version is not whole in the cache, or the folder holds data that is in no
            snapshot and may not be lost.
    """
    guard.refuse_occupied(data)
    now = data_folder.hash_folder(data.folder, data.index) if data.folder.is_dir() else None
    version = guard.require_cached(data, text, now, commit[:7])
    forms.refuse_unpacked(version, packed=way.packed)
    if now and not way.force:
        coming = {} if way.packed else listing.of(stock.cache_folder(data.root), version)
        guard.refuse_to_destroy(data, now, coming)
    kept = data.kept_of(version)
    files.write_text(pointer.path_of(kept), text)
    pointer.drop_others(data, pointer.path_of(kept))
    config = stock.plain(data)
    if config is None or (now and now.linked):
        forms.refuse_foreign(version)
        stock.bridge().checkout(data.root, data.pointer)
    else:
        with stock.hold(config):
            order = yield from forms.lay_out(data, version, config)
            if way.packed:
                forms.put_away(data)
            else:
                yield from placement.place(data, config, order.trusting(way.fresh), now=now)
        pointer.ignore(data, kept)
    head = _committed(data)
    return CheckedOut(
        newest=head is not None and head.md5 == version.md5,
        packed=way.packed,
        dataset=data.name,
        revision=commit,
        md5=version.md5,
        files=version.files,
    )
