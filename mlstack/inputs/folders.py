"""Raw data as people keep it: a folder per class, or a folder with `labels.csv`."""

import csv
from pathlib import Path

from mlstack import files
from mlstack.errors import DataError
from mlstack.inputs.images import SUFFIXES

CSV = "labels.csv"


def labeled_files(folder: Path) -> list[tuple[str, str]]:
    """List (path below the folder, label) of everything that is labeled.

    Raises:
        DataError: the folder is missing, empty, of neither form, or `labels.csv` is wrong;
            the line is named.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder `{folder}`", hint="name one that is there")
    if (folder / CSV).is_file():
        return _from_csv(folder)
    found = [
        (path.relative_to(folder).as_posix(), path.relative_to(folder).parts[0])
        for path in files.walk(folder)
        if path.suffix.lower() in SUFFIXES and len(path.relative_to(folder).parts) > 1
    ]
    if not found:
        raise DataError(
            f"`{folder}` has neither `{CSV}` nor a folder of images per class",
            hint=f"write {CSV} with the columns path,label, or make one folder per class",
        )
    return found


def _from_csv(folder: Path) -> list[tuple[str, str]]:
    try:
        return _rows(folder)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"`{folder / CSV}` cannot be read: {error}", hint="save it as CSV in UTF-8"
        ) from error


def _rows(folder: Path) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    with (folder / CSV).open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        if not {"path", "label"} <= set(reader.fieldnames or ()):
            raise DataError(f"{folder / CSV}:1: needs the columns `path` and `label`")
        for row in reader:
            where = f"{folder / CSV}:{reader.line_num}"
            name, label = (row["path"] or "").strip(), (row["label"] or "").strip()
            if not label:
                raise DataError(f"{where}: `{name}` has no label")
            target = folder / name
            if not target.is_file() or folder.resolve() not in target.resolve().parents:
                raise DataError(f"{where}: there is no file `{name}` in `{folder}`")
            rows.append((name, label))
    if not rows:
        raise DataError(f"`{folder / CSV}` has no rows")
    return rows
