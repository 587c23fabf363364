"""Files of many rows to be predicted: tables, and JSON with a row a line."""

from collections.abc import Collection
from pathlib import Path

from mlstack.errors import DataError
from mlstack.inputs import tables
from mlstack.inputs.tables import Row

LINES = (".jsonl", ".ndjson")
SUFFIXES = (".csv", ".parquet", *LINES)


def is_one(path: Path) -> bool:
    """Tell by its name whether a file holds many rows."""
    return path.suffix.lower() in SUFFIXES


def read(path: Path, texts: Collection[str]) -> list[Row]:
    """Read the rows of a file.

    Args:
        path: the file.
        texts: columns of a CSV file that are text even where all their values look like numbers.

    Raises:
        DataError: it cannot be read, or a line is no row.
    """
    if path.suffix.lower() not in LINES:
        return list(tables.read(path, path.name.lower(), texts).to_pylist())
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
