"""The list of files of a version, as an object of DVC's cache."""

from pathlib import Path

from mlstack.errors import DataError
from mlstack.records import dvc


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
            f"the files of version `{name}` ({md5[:8]}) are not in the cache",
            hint=f"type `mlstack version pull {name}`".replace(" `", "`"),
        )
    return dvc.parse_listing(path.read_bytes(), where=str(path))


def files_of(cache: Path, md5: str) -> dict[str, str]:
    """List the files of a version; none when its list is not here, is damaged, or is no list."""
    try:
        return read(cache, md5) if md5.endswith(".dir") else {}
    except DataError:
        return {}


def object_path(cache: Path, md5: str) -> Path:
    """Give the file of an object in DVC's cache."""
    return cache / md5[:2] / md5[2:]
