"""The data of a version from the remote into the cache and the folder, or at first its source."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

from mlstack.config import Project
from mlstack.errors import ConfigError, DataError
from mlstack.launch import merging
from mlstack.records.base import Record
from mlstack.version import api, exchange, guard, history, placement, stock
from mlstack.version.destination import remote_of
from mlstack.version.history import Dataset, dataset_of
from mlstack.version.result import Transferred, Working
from mlstack.version.transfer import Moved


@dataclass(frozen=True)
class Pull:
    """What is pulled, and from where."""

    revision: str | None = None  # only into the cache; None puts the current one into the folder
    force: bool = False  # lose data that is in no snapshot
    from_source: bool = False  # from the URL in `data.source`, not from the remote
    packed: bool = False  # leave the files in their packs


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
    if wish.from_source or (guard.lacks_source(project) and not wish.revision):
        # Arrow and what reads URLs take 0.2 s to load, which most pulls do not need.
        source = import_module("mlstack.version.source")
        yield from source.copy(project, force=wish.force)
        return
    data, remote = dataset_of(project), remote_of(project)
    commit = history.resolve(data, wish.revision) if wish.revision else None
    text = history.pointer_text(data, commit) if commit else _pointer_here(data)
    merging.register(project.root)
    with api.hold(project.root):
        moved, asked = Moved(), bool(remote) or _has_remote(data)
        if asked:
            guard.untrash(data, text)
            yield Working(text=f"{data.source}: fetching from {remote or 'the remote of DVC'}")
            moved = yield from exchange.fetch(data, remote, text, commit)
        elif not guard.is_cached(data, text):
            raise stock.bridge().no_remote({})
        if commit is None:
            way = placement.Way(wish.force, wish.packed, moved.fresh)
            yield from api.put(data, text, "", way)
        else:
            guard.require_cached(data, text)
    yield Transferred(
        dataset=data.name,
        direction="pull",
        remote=remote or "",
        objects=moved.objects,
        size_bytes=moved.size_bytes,
        asked=asked,
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
