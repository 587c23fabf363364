"""Objects on their way between DVC's cache and a folder that is a remote."""

import errno
import hashlib
import os
from collections.abc import Generator, Iterable
from pathlib import Path

from mlstack import files
from mlstack.errors import BusyError, DataError, MlstackError
from mlstack.plurals import counted, plural
from mlstack.records import dvc
from mlstack.records.base import Record
from mlstack.records.dvc_config import DvcConfig
from mlstack.version.copying import copy_objects, damaged
from mlstack.version.links import HARDLINK
from mlstack.version.objects import Objects
from mlstack.version.result import Counted
from mlstack.version.transfer import Moved

HELD_BYTES = 256 << 20  # of small objects that stay in memory until they are in the folder too
STEP = 500  # objects between two movements of the progress bar


def find(config: DvcConfig, url: str | None) -> Objects | None:
    """Give the remote when it is a folder and nothing but a folder.

    Args:
        config: DVC's settings.
        url: the URL or absolute folder of `versioning.remote`; None for DVC's own default.
    """
    options = config.options_of(url)
    if options.keys() != {"url"} or "://" in options["url"]:
        return None
    return Objects(Path(options["url"]) / "files" / "md5")


def push(
    config: DvcConfig, remote: Objects, current: str, older: Iterable[str]
) -> Generator[Record, None, Moved]:
    """Copy what a remote lacks of some versions to it.

    Args:
        config: DVC's settings.
        remote: where to.
        current: MD5 of a version that must be whole here.
        older: those of versions that go along as far as they are here.

    Raises:
        DataError: the cache lacks an object of the current version, or one is damaged.
        BusyError: the remote cannot be reached, or failed half-way.
        MachineError: the remote's disk is full.
    """
    cache = Objects(config.cache)
    also = set(older) - cache.missing(older) - {current}
    lists = {md5: _read_list(md5, [cache]) for md5 in sorted({current, *also})}
    needed = _files(lists[current], cache)
    spare = {md5 for one in also for md5 in _files(lists[one], cache)} - needed
    wanted = needed | (spare - cache.missing(spare))
    return (yield from _copy_missing(cache, remote, wanted, lists))


def fetch(config: DvcConfig, remote: Objects, version: str) -> Generator[Record, None, Moved]:
    """Copy what the cache lacks of a version from a remote.

    Raises:
        DataError: the remote lacks an object, or has a damaged one.
        BusyError: the remote cannot be reached, or failed half-way.
        MachineError: the disk is full.
    """
    if not remote.home.parent.parent.is_dir():
        raise failed(remote.home, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    cache = Objects(config.cache)
    content = _read_list(version, [cache, remote])
    wanted = _files(content, remote)
    held = 0 if HARDLINK in config.links else HELD_BYTES
    return (yield from _copy_missing(remote, cache, wanted, {version: content}, held))


def _files(content: bytes, store: Objects) -> set[str]:
    return dvc.parse_contents(content, where=str(store.home))


def _copy_missing(
    origin: Objects,
    target: Objects,
    wanted: set[str],
    lists: dict[str, bytes],
    held: int | None = None,
) -> Generator[Record, None, Moved]:
    """Copy files first and the lists that name them last: a list never names what is not there.

    So many bytes that small files hold stay in memory for whoever puts them into the folder; None
    where nobody will.
    """
    fresh: dict[str, bytes | None] = {}
    try:
        missing, missing_lists = sorted(target.missing(wanted)), target.missing(lists)
        if not missing and not missing_lists:
            return Moved()
        size = sum(len(lists[md5]) for md5 in missing_lists)
        with target.filling() as filling:
            copied = copy_objects(filling, origin, missing)
            for number, (md5, size_bytes, content) in enumerate(copied):
                size += size_bytes
                if held is not None:
                    fresh[md5] = content if size <= held else None
                if number % STEP == 0:
                    yield Counted(text="copied", done=number, total=len(missing), unit="files")
            filling.flush()
            for md5 in missing_lists:
                filling.add(md5, lists[md5])
    except FileNotFoundError as error:
        raise _lacking(origin, missing) or failed(target.home, error) from error
    except OSError as error:
        raise failed(target.home, error) from error
    return Moved(len(missing) + len(missing_lists), size, fresh)


def _lacking(origin: Objects, wanted: list[str]) -> DataError | None:
    """Count what is not where it was to be copied from."""
    lacking = origin.missing(wanted)
    if not lacking:
        return None
    return DataError(
        f"{counted(len(lacking), 'file')} of this version "
        f"{plural(len(lacking), 'is', 'are')} not in `{origin.home}`",
        hint="type `mlstack version push` where they are, then try again",
    )


def _read_list(md5: str, stores: list[Objects]) -> bytes:
    """Read a version's list of files from the first store that has it."""
    for store in stores:
        path = Path(store.path(md5))
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise failed(store.home, error) from error
        if hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir" != md5:
            raise damaged(store, md5)
        return content
    raise DataError(
        f"version {md5[:8]} is not in `{stores[-1].home}`",
        hint="type `mlstack version push` where it is, then try again",
    )


def failed(place: Path, error: OSError) -> MlstackError:
    """Tell a full disk from a remote that is gone; name the file where that is known."""
    if error.errno in files.FULL:
        return files.cannot_write(place, error)
    return BusyError(
        f"`{error.filename or place}` cannot be reached: {error.strerror}",
        hint="is it there? Then try again; what was copied stays copied",
    )
