"""The trash of DVC's cache: objects that nothing needed, kept for a while.

It is `trash/TIME/xx/yyy` beside the cache's `files/`, on the same filesystem, so that an object
goes there and comes back by one rename: after a kill at any moment it is in one of the two places.
Lists of files go first and come back last: no list in the cache names a file that is in the trash.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlstack import files
from mlstack.version.listing import files_of, object_path

TIME = "%Y%m%dT%H%M%SZ"
LIST = ".dir"  # end of the name of a list of files


@dataclass(frozen=True)
class Discarded:
    """An object in the trash."""

    path: Path
    md5: str
    size_bytes: int
    since: datetime


def folder(cache: Path) -> Path:
    """Give the trash of a cache whose objects lie in `.../files/md5/xx/yyy`."""
    return cache.parent.parent / "trash"


def discard(cache: Path, objects: Iterable[Path], now: datetime) -> None:
    """Move objects of the cache to the trash."""
    batch = folder(cache) / f"{now:{TIME}}"
    made = set()
    for path in sorted(objects, key=lambda path: not path.name.endswith(LIST)):
        place = batch / path.parent.name
        if place not in made:
            place.mkdir(parents=True, exist_ok=True)
            made.add(place)
        path.rename(place / path.name)
    _sync(batch, cache)


def content(cache: Path) -> list[Discarded]:
    """List what is in the trash, the newest first."""
    found = []
    batches = sorted(_folders(folder(cache)), reverse=True)
    for batch in batches:
        since = _time(batch.name)
        if since is None:
            continue
        for place in _folders(batch):
            found += [
                Discarded(path, place.name + path.name, path.stat().st_size, since)
                for path in sorted(place.iterdir())
            ]
    return found


def restore(cache: Path, wanted: set[str] | None = None) -> list[Discarded]:
    """Bring objects back into the cache, all of them or those that are asked for.

    One that the cache has again meanwhile stays there; its copy in the trash is removed when it
    is no other.
    """
    chosen = [one for one in content(cache) if wanted is None or one.md5 in wanted]
    for is_list in (False, True):
        _put_back(cache, [one for one in chosen if one.md5.endswith(LIST) == is_list])
    _prune(cache)
    return chosen


def _put_back(cache: Path, chosen: list[Discarded]) -> None:
    """Move objects into the cache; they are durable there, all at once, afterwards.

    Raises:
        MachineError: the cache cannot be written.
    """
    touched = set()
    try:
        for one in chosen:
            target = object_path(cache, one.md5)
            if not target.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                one.path.rename(target)
                touched.add(target.parent)
            elif target.stat().st_size == one.size_bytes:
                one.path.unlink()
        for place in sorted(touched):
            files.sync_folder(place)
    except OSError as error:
        raise files.cannot_write(cache, error) from error


def bring_back(cache: Path, md5s: set[str]) -> int:
    """Restore what is asked for and lies in the trash; a list brings the files that it names.

    Returns:
        The number of objects that came back.
    """
    if not folder(cache).is_dir():
        return 0
    found = _restore_lacking(cache, md5s)
    named = {one for md5 in md5s if md5.endswith(LIST) for one in files_of(cache, md5).values()}
    return found + _restore_lacking(cache, named)


def _restore_lacking(cache: Path, md5s: set[str]) -> int:
    lacking = {md5 for md5 in md5s if not object_path(cache, md5).is_file()}
    return len(restore(cache, lacking)) if lacking else 0


def empty(cache: Path, before: datetime) -> list[Discarded]:
    """Delete what was moved to the trash before a moment."""
    old = [one for one in content(cache) if one.since <= before]
    for one in old:
        one.path.unlink()
    _prune(cache)
    return old


def _time(name: str) -> datetime | None:
    try:
        return datetime.strptime(name, TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


def _prune(cache: Path) -> None:
    """Remove the folders that are empty."""
    for batch in _folders(folder(cache)):
        for place in [*_folders(batch), batch]:
            if not any(place.iterdir()):
                place.rmdir()


def _sync(batch: Path, cache: Path) -> None:
    for place in _folders(batch):
        files.sync_folder(place)
        files.sync_folder(cache / place.name)
