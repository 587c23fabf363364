"""What a dataset version holds: file hashes and labels, from the cache or the working tree."""

import csv
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from posixpath import normpath

from mlstack import files, packed
from mlstack.errors import DataError
from mlstack.inputs import folders, tables
from mlstack.inputs.images import SUFFIXES
from mlstack.packed import Packs
from mlstack.records import data_folder, dataset, dvc
from mlstack.records.dataset_hash import hash_dataset, is_packed
from mlstack.version import listing, stock
from mlstack.version.chunked import Chunks
from mlstack.version.history import Dataset
from mlstack.version.objects import MODE


@dataclass(frozen=True)
class Content:
    """The files of one version by their path, and where each one's bytes are."""

    name: str
    md5: str
    entries: dict[str, str]  # path -> MD5
    locate: Callable[[str], Path]
    label: str | None = None  # of a table: the column that holds the class

    def labels(self) -> dict[str, str]:
        """Give the label of each labeled path; of a table, of each row, named by its content.

        Raises:
            DataError: the labels file is damaged or not in the cache.
        """
        if self.label is not None:
            return self._rows(self.label)
        rows = self.label_rows()
        if rows is not None:
            return {path: label for path, label in rows if label}
        return {
            path: path.split("/")[0]
            for path in self.entries
            if "/" in path and Path(path).suffix.lower() in SUFFIXES
        }

    def label_rows(self) -> list[tuple[str, str]] | None:
        """List path and label of each row of the file of labels, as it stands; None without one.

        Raises:
            DataError: the file is damaged or not in the cache.
        """
        if dataset.LABELS in self.entries:
            table = dataset.read_labels(self.locate(dataset.LABELS))
            columns = table.select(["path", "label"]).to_pydict()
            rows = zip(columns["path"], columns["label"], strict=True)
            return [(path, str(label or "")) for path, label in rows]
        if folders.CSV in self.entries:
            return _csv_rows(self.locate(folders.CSV))
        return None

    def _rows(self, label: str) -> dict[str, str]:
        name = next((name for name in tables.NAMES if name in self.entries), None)
        if name is None:
            return {}
        rows = tables.read(self.locate(name), kind=name).to_pylist()
        seen: Counter[str] = Counter()
        found = {}
        for row, content in zip(rows, tables.contents(rows, label), strict=True):
            seen[content] += 1
            again = f"-{seen[content]}" if seen[content] > 1 else ""
            found[f"{name}:{content[:12]}{again}"] = tables.class_of(row.get(label))
        return found

    def classes(self) -> dict[str, int]:
        """Count the labeled files of each class, by name."""
        return dict(sorted(Counter(self.labels().values()).items()))


def of_folder(data: Dataset) -> Content:
    """Hash the files in the working tree, or in the packs that lie there alone."""
    if is_packed(data.folder):
        packs = packed.of_folder(packed.folder_of(data.folder))
        md5 = hash_dataset(data.root, data.source).md5
        locate = partial(_unpacked, stock.cache_folder(data.root), packs)
        return Content("working tree", md5, packs.entries, locate, data.label)
    state = data_folder.hash_folder(data.folder, data.index)
    return Content(
        "working tree", state.md5, state.entries, lambda path: data.folder / path, data.label
    )


def of_version(cache: Path, version: dvc.Pointer, name: str, label: str | None = None) -> Content:
    """Read a version from DVC's cache; `label` names a table's column of classes.

    Raises:
        DataError: it is not there.
    """
    if version.stored is not None:
        made = listing.made_of(cache, version.stored.md5, name)
        return Content(name, version.md5, made.entries, partial(_unpacked, cache, made), label)
    entries = listing.read(cache, version.md5, name)
    return Content(
        name, version.md5, entries, lambda path: listing.object_path(cache, entries[path]), label
    )


def _unpacked(cache: Path, made: Packs | Chunks, path: str) -> Path:
    """Give a packed file as an object of the cache, where it is put when it is asked for."""
    place = listing.object_path(cache, made.members[path].md5)
    if not place.is_file():
        files.write_chunks(place, made.pour(path), mode=MODE)
    return place


def _csv_rows(place: Path) -> list[tuple[str, str]]:
    """Read labels.csv; a path may be written as `./a/b.png`, as training takes it."""
    try:
        text = place.read_text(encoding="utf-8-sig")
        reader = folders.reader_of(io.StringIO(text, newline=""))
        folders.refuse_columns(Path(folders.CSV), reader)
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"`{folders.CSV}` cannot be read: {error}", hint="save it as CSV in UTF-8"
        ) from error
    return [
        (normpath(path), (row["label"] or "").strip())
        for row in rows
        if (path := (row["path"] or "").strip())
    ]
