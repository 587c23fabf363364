"""Files of rows to be predicted: tables, JSON with a row a line, and plain texts."""

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from mlstack.errors import DataError
from mlstack.inputs import tables
from mlstack.inputs.tables import Row

TEXT = ".txt"  # one row, of a model that reads one text
LINES = (".jsonl", ".ndjson")
SUFFIXES = (".csv", ".parquet", *LINES)


def is_one(path: Path) -> bool:
    """Tell by its name whether a file holds many rows."""
    return path.suffix.lower() in SUFFIXES


def is_text(path: Path, texts: Collection[str], numbers: Collection[str]) -> bool:
    """Tell whether a file is the text that a row of these columns holds."""
    return path.suffix.lower() == TEXT and len(texts) == 1 and not numbers


def read_text(path: Path, column: str) -> Row:
    """Read a file as the one text of a row.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        return {column: path.read_text(encoding="utf-8-sig")}
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"`{path}` is not UTF-8 text", hint="save it in UTF-8") from error


def read(path: Path, texts: Collection[str], numbers: Collection[str]) -> list[Row]:
    """Read the rows of a file.

    Args:
        path: the file.
        texts: columns of a CSV file that are text even where all their values look like numbers.
        numbers: columns that hold numbers; in a CSV file one other cell makes texts of them all.

    Raises:
        DataError: it cannot be read, a line is no row, or a cell no number.
    """
    if path.suffix.lower() not in LINES:
        table = tables.read(path, path.name.lower(), texts)
        for name in table.column_names:
            if name in numbers and pa.types.is_string(table[name].type):
                _refuse_other_cells(path, name, table[name].to_pylist())
        return list(table.to_pylist())
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.extend([tables.decode_row(line)] if line.strip() else [])
        except DataError as error:
            raise DataError(f"{path}:{number}: {error.problem}", hint=error.hint) from error
    if not rows:
        raise DataError(f"`{path}` has no rows", hint="put one example a line into it")
    return rows


def _refuse_other_cells(path: Path, name: str, cells: list[str | None]) -> None:
    """Name the first cell that is no number."""
    for row, cell in enumerate(cells, start=1):
        try:
            float(cell or "nan")
        except ValueError as error:
            raise DataError(
                f"{path}: row {row}, column `{name}`: needs a number, got the text `{cell}`",
                hint="mend the value, or leave it empty; the first row is 1",
            ) from error
