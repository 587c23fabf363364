"""Raw data as people keep it: a folder per class, or a folder with `labels.csv`."""

import csv
import os
from pathlib import Path
from typing import TextIO

from mlstack import files
from mlstack.errors import DataError
from mlstack.inputs.images import SUFFIXES

CSV = "labels.csv"
IMAGES = "images"
BEGIN = "; two images of each class will do, `mlstack label` asks for the rest"


def labeled_files(
    folder: Path, suffixes: frozenset[str] = SUFFIXES, what: str = IMAGES
) -> list[tuple[str, str]]:
    """List (path below the folder, label) of everything that is labeled.

    Args:
        folder: a folder per class, or one with `labels.csv`.
        suffixes: of the files that count in a folder per class.
        what: such files are called.

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
        if path.suffix.lower() in suffixes and len(path.relative_to(folder).parts) > 1
    ]
    if not found:
        raise DataError(
            f"`{folder}` has neither `{CSV}` nor a folder of {what} per class",
            hint=f"write {CSV} with the columns path,label, or make one folder per class"
            + BEGIN * (what == IMAGES),
        )
    return found


def _from_csv(folder: Path) -> list[tuple[str, str]]:
    try:
        return _rows(folder)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"`{folder / CSV}` cannot be read: {error}", hint="save it as CSV in UTF-8"
        ) from error


def reader_of(stream: TextIO, *, strict: bool = False) -> "csv.DictReader[str]":
    """Read `path,label`; a table program may have put semicolons or tabs, and spaces."""
    header = stream.readline()
    stream.seek(0)
    apart = next((mark for mark in ";\t" if mark in header and "," not in header), ",")
    reader = csv.DictReader(stream, delimiter=apart, strict=strict)
    names = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = names
    return reader


def refuse_columns(file: Path, reader: "csv.DictReader[str]") -> None:
    """Refuse a file without the two columns.

    Raises:
        DataError: one is missing; those that are there are named.
    """
    found = reader.fieldnames or ()
    if not {"path", "label"} <= set(found):
        named = ", ".join(f"`{name}`" for name in found) or "nothing"
        raise DataError(
            f"{file}:1: needs the columns `path` and `label`; its first line has {named}",
            hint="make the first line path,label",
        )


def _rows(folder: Path) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    with (folder / CSV).open(newline="", encoding="utf-8-sig") as stream:
        reader = reader_of(stream)
        refuse_columns(folder / CSV, reader)
        for row in reader:
            where = f"{folder / CSV}:{reader.line_num}"
            name, label = (row["path"] or "").strip(), (row["label"] or "").strip()
            if not label:
                raise DataError(
                    f"{where}: `{name}` has no label", hint="write it, or remove the line"
                )
            rows.append((_inside(folder, name, where), label))
    if not rows:
        raise DataError(f"`{folder / CSV}` has no rows", hint="write a line path,label per image")
    return rows


def _inside(folder: Path, name: str, where: str) -> str:
    """Give a written path relative to the folder; it may be a whole one, as of another tool."""
    top = folder.absolute()
    below = os.path.relpath(top / name, top)
    target = folder / below
    escapes = folder.resolve() not in target.resolve().parents or below.startswith("..")
    if escapes or not target.is_file():
        raise DataError(
            f"{where}: there is no file `{name}` in `{folder}`",
            hint=f"write paths as they are below `{folder}`, with /",
        )
    return Path(below).as_posix()
