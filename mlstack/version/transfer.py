"""Objects on their way between DVC's cache and a folder that is a remote."""

import errno
import hashlib
import os
from collections.abc import Generator
from pathlib import Path

from mlstack import files
from mlstack.errors import BusyError, DataError, MlstackError
from mlstack.records import dvc
from mlstack.records.base import Record
from mlstack.records.file_hash import stamp_of
from mlstack.version.copying import copy_all
from mlstack.version.objects import Objects
from mlstack.version.result import Counted

STEP = 500  # objects between two movements of the progress bar


def push(cache: Objects, remote: Objects, versions: list[str]) -> Generator[Record, None, int]:
    """Copy the objects of some versions that a remote lacks to it; give their number.

    Args:
        cache: where they are.
        remote: where they shall be.
        versions: MD5 of each version's list of files, `.dir` included.

    Raises:
        DataError: the cache lacks an object, or has a damaged one.
        BusyError: the remote cannot be reached, or failed half-way.
        MachineError: the remote's disk is full.
    """
    lists = {md5: _read_list(md5, [cache]) for md5 in versions}
    return (yield from _copy_missing(cache, remote, lists, "to the remote"))


def fetch(cache: Objects, remote: Objects, versions: list[str]) -> Generator[Record, None, int]:
    """Copy the objects of some versions that the cache lacks from a remote; give their number.

    Raises:
        DataError: the remote lacks an object, or has a damaged one.
        BusyError: the remote cannot be reached, or failed half-way.
        MachineError: the disk is full.
    """
    if not remote.home.parent.parent.is_dir():
        raise failed(remote.home, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    lists = {md5: _read_list(md5, [cache, remote]) for md5 in versions}
    return (yield from _copy_missing(remote, cache, lists, "into the cache"))


def _copy_missing(
    origin: Objects, target: Objects, lists: dict[str, bytes], text: str
) -> Generator[Record, None, int]:
    """Copy files first and the lists that name them last: a list never names what is not there."""
    wanted: set[str] = set()
    for md5, content in lists.items():
        wanted.update(dvc.parse_listing(content, where=origin.path(md5)).values())
    missing, missing_lists = sorted(target.missing(wanted)), target.missing(lists)
    if not missing and not missing_lists:
        return 0
    found = _found(origin, missing)
    try:
        with target.filling() as filling:
            for number, (digest, _) in enumerate(copy_all(filling, found)):
                if digest.hex() != missing[number]:
                    filling.drop(digest.hex())
                    raise _damaged(origin, missing[number])
                if number % STEP == 0:
                    yield Counted(text=text, done=number, total=len(missing), unit="files")
            filling.flush()
            for md5 in missing_lists:
                filling.add(md5, lists[md5])
    except OSError as error:
        raise failed(target.home, error) from error
    return len(missing) + len(missing_lists)


def _found(origin: Objects, wanted: list[str]) -> list[tuple[str, bytes]]:
    """Give path and stamp of each object that will be copied."""
    if lacking := origin.missing(wanted):
        raise DataError(
            f"{len(lacking)} files of this version are not in `{origin.home}`",
            hint="type `mlstack version push` where they are, then try again",
        )
    paths = [origin.path(md5) for md5 in wanted]
    return [(path, stamp_of(os.stat(path))) for path in paths]  # noqa: PTH116  100,000 of them


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
            raise _damaged(store, md5)
        return content
    raise DataError(
        f"version {md5[:8]} is not in `{stores[-1].home}`",
        hint="type `mlstack version push` where it is, then try again",
    )


def _damaged(store: Objects, md5: str) -> DataError:
    return DataError(
        f"the object {md5} is damaged in `{store.home}`",
        hint=f"type `rm -f {store.path(md5)}`, then push or pull it again",
    )


def failed(place: Path, error: OSError) -> MlstackError:
    """Tell a full disk from a remote that is gone."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return files.cannot_write(place, error)
    return BusyError(
        f"`{place}` cannot be reached: {error.strerror}",
        hint="is it there? Then try again; what was copied stays copied",
    )
