"""Whether two versions differ at all: told by their hashes, before anything heavy is loaded."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mlstack.config import Project
from mlstack.records import dvc
from mlstack.records.base import Record
from mlstack.records.dataset_hash import hash_dataset
from mlstack.version import history
from mlstack.version.difference import Difference
from mlstack.version.history import Dataset, dataset_of


@dataclass(frozen=True)
class Asked:
    """Which versions to compare, and what to write."""

    first: str
    second: str | None = None  # None: the working tree
    key: tuple[str, ...] = ()  # columns that name a row
    out: Path | None = None  # Parquet file for every row that differs
    page: Path | None = None  # HTML file with pictures

    def asks_more(self) -> bool:
        """Tell whether anything is wanted even of versions that are equal."""
        return bool(self.key) or self.out is not None or self.page is not None


def diff(project: Project, asked: Asked) -> Iterator[Record]:
    """Compare two versions; without a second one, the working tree.

    Raises:
        ConfigError: git does not know a revision, or `key` names no rows.
        DataError: a version's files are not in the cache, or its labels are damaged.
    """
    data = dataset_of(project)
    if not asked.asks_more() and _md5(data, asked.first) == _md5(data, asked.second):
        yield Difference(
            dataset=data.name,
            before=asked.first,
            after=asked.second or "working tree",
            bytes_added=0,
            bytes_removed=0,
        )
        return
    # Tables, pictures and labels take half a second to load, which equal versions should not cost.
    yield from import_module("mlstack.version.diff").diff(project, asked)


def _md5(data: Dataset, revision: str | None) -> str:
    if revision is None:
        return hash_dataset(data.root, data.source).md5
    text = history.pointer_text(data, history.resolve(data, revision))
    return dvc.parse_pointer(text, where=revision).md5
