"""What DVC's cache holds and nothing needs: shown first, moved to the trash, deleted much later."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mlstack.config import Project
from mlstack.errors import ConfigError, DataError
from mlstack.plurals import counted
from mlstack.records.base import Record
from mlstack.ui import is_terminal
from mlstack.version import history, listing, marks, stock, trash, words
from mlstack.version import remade as remade_inputs
from mlstack.version.api import hold
from mlstack.version.history import Dataset, dataset_of
from mlstack.version.result import Collected, Emptied, Restored, Spare, Spared

GRACE_DAYS = 14


@dataclass(frozen=True)
class GcOptions:
    """What a person decides about a collection."""

    only_tips: bool = False  # free what only older commits name, too
    recent_days: int | None = None  # keep the data of runs of so many days; None keeps all
    grace_days: int = GRACE_DAYS  # how long the trash keeps what is moved there
    yes: bool = False


def run(project: Project, options: GcOptions, *, restore: bool, empty: bool) -> Iterator[Record]:
    """Collect, or do with the trash what is asked for.

    Raises:
        ConfigError: both are asked for.
    """
    if restore and empty:
        raise ConfigError("--restore and --empty are opposites", hint="give one of them")
    if restore:
        yield bring_back(project)
    elif empty:
        yield purge(project, options.grace_days)
    else:
        yield from gc(project, options)


def gc(project: Project, options: GcOptions) -> Iterator[Record]:
    """Show the objects that nothing needs; with `yes`, move them to the trash.

    Branches, tags, stashes, worktrees, runs and packages keep theirs. What has been in the trash
    for longer than the grace period is deleted on the way, and so are decoded images and joined
    tables that nothing needs.

    Raises:
        ConfigError: there is something to free, nobody can be asked, and `yes` is not given; or
            the cache lies outside the project.
        DataError: a list of files that is needed is damaged.
    """
    data = dataset_of(project)
    now = datetime.now(UTC)
    with hold(project.root), stock.bridge().locked(project.root):
        cache = _own_cache(data)
        named = _named(data, options, now)
        keep = _needed(cache, named)
        spare = [path for path in _objects(cache) if _name(path) not in keep]
        unlisted = _unlisted(cache, named, spare)
        spare = [path for path in spare if path not in unlisted]
        size = sum(path.stat().st_size for path in spare)
        table = Spared(
            versions=_by_version(data, cache, spare), objects=len(spare), size_bytes=size
        )
        source = project.config.data.folder
        remade = remade_inputs.clear(data.root, source, delete=options.yes)
        if (spare or remade.spare_bytes) and not options.yes and not is_terminal():
            yield table
            raise _refused(len(spare), size, remade.spare_bytes, options.grace_days)
        deleted: list[trash.Discarded] = []
        if options.yes:
            trash.discard(cache, spare, now)
            deleted = _empty(data, cache, now - timedelta(days=options.grace_days))
        left = trash.content(cache)
        yield Collected(
            objects=len(spare),
            size_bytes=size,
            kept=len(keep),
            unlisted=len(unlisted),
            moved=options.yes,
            versions=table.versions,
            grace_days=options.grace_days,
            deleted_bytes=sum(one.size_bytes for one in deleted),
            trash_objects=len(left),
            trash_bytes=sum(one.size_bytes for one in left),
            remade_bytes=remade.spare_bytes,
            remade_needed_bytes=remade.needed_bytes,
        )


def _refused(objects: int, size: int, remade: int, grace_days: int) -> ConfigError:
    """Say what a collection would do that nobody has agreed to."""
    inputs = f"{words.size(remade)} of decoded inputs could be deleted"
    if not objects:
        return ConfigError(f"nothing was touched; {inputs}", hint="repeat with --yes to do so")
    also = f", and {inputs}" if remade else ""
    return ConfigError(
        f"nothing was moved; {counted(objects, 'object')} with {words.size(size)} could be{also}",
        hint=f"repeat with --yes to move them to the trash for {grace_days} days",
    )


def bring_back(project: Project) -> Restored:
    """Bring everything back from the trash."""
    data = dataset_of(project)
    with hold(project.root), stock.bridge().locked(project.root):
        found = trash.restore(stock.cache_folder(data.root))
    return Restored(objects=len(found), size_bytes=sum(one.size_bytes for one in found))


def purge(project: Project, grace_days: int) -> Emptied:
    """Delete what has been in the trash for longer than the grace period."""
    data = dataset_of(project)
    now = datetime.now(UTC)
    with hold(project.root), stock.bridge().locked(project.root):
        cache = stock.cache_folder(data.root)
        gone = _empty(data, cache, now - timedelta(days=grace_days))
        left = trash.content(cache)
    return Emptied(
        objects=len(gone),
        size_bytes=sum(one.size_bytes for one in gone),
        trash_objects=len(left),
        trash_bytes=sum(one.size_bytes for one in left),
        grace_days=grace_days,
    )


def _empty(data: Dataset, cache: Path, before: datetime) -> list[trash.Discarded]:
    """Delete old trash; what a tip, a run or a package names by now comes back instead."""
    named = marks.of_git(data.root, history=False) | marks.of_records(data.root)
    trash.bring_back(cache, named)
    return trash.empty(cache, before)


def _named(data: Dataset, options: GcOptions, now: datetime) -> set[str]:
    days = options.recent_days
    since = now - timedelta(days=days) if days is not None else None
    named = marks.of_git(data.root, history=not options.only_tips)
    return named | marks.of_records(data.root, since)


def _needed(cache: Path, named: set[str]) -> set[str]:
    """List what is named and all files of the lists among it.

    Raises:
        DataError: such a list is damaged, so nobody knows what it needs.
    """
    keep = set(named)
    for md5 in named:
        if md5.endswith(trash.LIST) and listing.is_damaged(cache, md5):
            raise DataError(
                f"the list of the files of version {md5[:8]} is damaged; nothing was touched",
                hint="type `mlstack version verify --fix`",
            )
        keep.update(listing.files_of(cache, md5).values())
    return keep


def _unlisted(cache: Path, named: set[str], spare: list[Path]) -> set[Path]:
    """Find what a version whose list is lost may need: spare objects that no list here names."""
    lists = {md5 for md5 in named if md5.endswith(trash.LIST)}
    if all(listing.object_path(cache, md5).is_file() for md5 in lists):
        return set()
    listed = {_name(path) for path in spare if path.name.endswith(trash.LIST)}
    for md5 in tuple(listed):
        listed.update(listing.files_of(cache, md5).values())
    return {path for path in spare if _name(path) not in listed}


def _by_version(data: Dataset, cache: Path, spare: list[Path]) -> list[Spare]:
    """Say which version each object is of; one that several share counts for the newest."""
    known = {v.pointer.kept.md5: v for v in reversed(history.versions(data, everywhere=True))}
    left = {_name(path): path.stat().st_size for path in spare}
    lists = {_name(p): p.stat().st_mtime for p in spare if p.name.endswith(trash.LIST)}
    rows = []
    for md5 in sorted(lists, key=lambda md5: -lists[md5]):
        version = known.get(md5)
        sizes = [left.pop(one, None) for one in (md5, *set(listing.files_of(cache, md5).values()))]
        freed = [size for size in sizes if size is not None]
        at = datetime.fromtimestamp(lists[md5], UTC).isoformat(timespec="seconds")
        rows.append(
            Spare(
                md5=md5,
                revision=version.revision if version else None,
                message=version.message if version else "",
                date=version.date if version else at,
                objects=len(freed),
                size_bytes=sum(freed),
            )
        )
    if left:
        rows.append(Spare(md5=None, objects=len(left), size_bytes=sum(left.values())))
    return rows


def _own_cache(data: Dataset) -> Path:
    """Give the cache; refuse one outside the project: others may keep their data there."""
    cache = stock.cache_folder(data.root)
    if not any((above / ".dvc") in cache.parents for above in (data.root, *data.root.parents)):
        raise ConfigError(
            f"the cache `{cache}` may be shared with other projects; nothing was touched",
            hint="type `dvc gc --all-commits --projects OTHER_PROJECT ...`",
        )
    return cache


def _objects(cache: Path) -> Iterator[Path]:
    for folder in sorted(cache.iterdir()) if cache.is_dir() else ():
        if len(folder.name) == 2 and folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.is_file())


def _name(path: Path) -> str:
    return path.parent.name + path.name
