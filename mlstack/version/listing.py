"""The files of a version: DVC's list of them, or the tables of its packs."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import compress
from operator import ne
from pathlib import Path

from mlstack import files as disk
from mlstack.errors import DataError
from mlstack.packed import Packs
from mlstack.records import dvc
from mlstack.version import chunked
from mlstack.version.chunked import Chunks
from mlstack.version.objects import Objects


def read(cache: Path, md5: str, name: str = "") -> dict[str, str]:
    """Read which files a version has: the MD5 of each by its path in the folder.

    Args:
        cache: DVC's cache.
        md5: of the list, `.dir` included.
        name: of the version, for the error.

    Raises:
        DataError: it is not there.
    """
    path = object_path(cache, md5)
    if not path.is_file():
        raise DataError(
            f"the files of version {f'`{name}` ({md5[:8]})' if name else md5[:8]} "
            "are not in the cache",
            hint=f"type `{f'mlstack version pull {name}'.rstrip()}`",
        )
    status = path.stat()
    return _parsed(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=2)  # a command asks for the same one several times, and it may have 10 MB
def _parsed(path: Path, *_: int) -> dict[str, str]:
    return dvc.parse_listing(path.read_bytes(), where=str(path))


def of(cache: Path, version: dvc.Pointer, name: str = "") -> dict[str, str]:
    """List the files of a version: the MD5 of each by its path in the dataset.

    Raises:
        DataError: what says so is not in the cache.
    """
    if version.stored is None:
        return read(cache, version.md5, name)
    return made_of(cache, version.stored.md5, name).entries


def made_of(cache: Path, md5: str, name: str = "") -> Packs | Chunks:
    """Open the packs or chunks of a version where they lie in the cache.

    Raises:
        DataError: the list of them is not there.
    """
    listed = read(cache, md5, name)
    places = {name: object_path(cache, one) for name, one in listed.items()}
    return Chunks(places) if chunked.TABLE in places else Packs(places)


def missing(
    cache: Path, version: dvc.Pointer, here: dict[str, str] | None = None, name: str = ""
) -> set[str]:
    """Name the objects that a version needs and the cache lacks.

    Args:
        cache: DVC's cache.
        version: the version.
        here: files that lie in the dataset's folder, and so are not needed from the cache.
        name: of the version, for the error.

    Raises:
        DataError: even the list of them is not there.
    """
    needed = read(cache, version.kept.md5, name)
    if here and version.stored is None:
        return Objects(cache).missing(md5 for _, md5 in unlike(needed, here))
    return Objects(cache).missing(needed.values())


def unlike(files: dict[str, str], others: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield path and MD5 of the files that `others` does not have with this MD5, in their order."""
    if not others:
        return iter(files.items())
    return compress(files.items(), map(ne, map(others.get, files), files.values()))


def files_of(cache: Path, md5: str) -> dict[str, str]:
    """List the files of a version; none when its list is not here, is damaged, or is no list."""
    try:
        return read(cache, md5) if md5.endswith(".dir") else {}
    except DataError:
        return {}


def is_damaged(cache: Path, md5: str) -> bool:
    """Tell whether a list of files is here, but not as it was written."""
    path = object_path(cache, md5)
    return path.is_file() and disk.md5(path) + ".dir" != md5


def object_path(cache: Path, md5: str) -> Path:
    """Give the file of an object in DVC's cache."""
    return cache / md5[:2] / md5[2:]
