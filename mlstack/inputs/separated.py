"""Tables as text: CSV with commas, semicolons, tabs or bars, as many programs write it."""

import codecs
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

MARKS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
FIRST_LINE_BYTES = 1 << 16
MOST_BYTES = (1 << 31) - 1  # of a block, as Arrow counts
# What stands for an empty cell; in a row that is served it means the same.
MISSING: tuple[str, ...] = tuple(pa.csv.ConvertOptions().null_values)


@dataclass(frozen=True)
class _How:
    """How cells are read."""

    mark: str
    texts: tuple[str, ...] = ()
    decimal: str = "."
    quoted_is_empty: bool = False  # where the quotes hold what stands for an empty cell


def read(path: Path, texts: Collection[str] = ()) -> pa.Table:
    """Read a file whose first line names the columns.

    Columns in `texts` are text, even where all their values look like numbers. Between semicolons,
    numbers may have a decimal comma. Numbers stay numbers where every cell is in quotes, the empty
    ones too.

    Raises:
        OSError: it cannot be read.
        pyarrow.ArrowException: it is no table.
    """
    how = _How(delimiter(path))
    table = _read(path, how)
    numeric = tuple(f.name for f in table.schema if f.name in texts and _is_number(f.type))
    if numeric:
        how = replace(how, texts=numeric)
        table = _read(path, how)
    if how.mark == ";" and _texts(table):
        with_comma = _read(path, replace(how, decimal=",", quoted_is_empty=True))
        with_point = _read(path, replace(how, quoted_is_empty=True))
        pairs = zip(with_comma.columns, with_point.columns, strict=True)
        if any(_is_number(one.type) and pa.types.is_string(other.type) for one, other in pairs):
            return _numbers_of(with_comma, _read(path, replace(how, decimal=",")))
    if any(text.index("").as_py() >= 0 for text in _texts(table)):
        return _numbers_of(_read(path, replace(how, quoted_is_empty=True)), table)
    return table


def is_utf16(path: Path) -> bool:
    """Tell what spreadsheets call Unicode text by the mark that it begins with."""
    with path.open("rb") as stream:
        return stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def delimiter(path: Path) -> str:
    """Give the mark that stands most often between the names of the columns, or the comma."""
    with path.open("rb") as stream:
        first = stream.readline(FIRST_LINE_BYTES).decode("utf-8-sig", errors="replace")
    names = "".join(first.split('"')[::2])  # without what stands in quotes
    return max(MARKS, key=names.count)


def _read(path: Path, how: _How) -> pa.Table:
    converted = pa.csv.ConvertOptions(
        strings_can_be_null=True,
        quoted_strings_can_be_null=how.quoted_is_empty,
        decimal_point=how.decimal,
        column_types=dict.fromkeys(how.texts, pa.string()),
    )
    parsed = pa.csv.ParseOptions(delimiter=how.mark)
    try:
        return pa.csv.read_csv(path, parse_options=parsed, convert_options=converted)
    except pa.ArrowInvalid as error:
        if "straddles" not in str(error):
            raise
    # A line longer than a block of 1 MB: the whole file is one block.
    block = pa.csv.ReadOptions(block_size=min(path.stat().st_size + 1, MOST_BYTES))
    return pa.csv.read_csv(path, block, parsed, converted)


def _numbers_of(numbers: pa.Table, others: pa.Table) -> pa.Table:
    pairs = zip(numbers.columns, others.columns, strict=True)
    columns = [one if _is_number(one.type) else other for one, other in pairs]
    return pa.table(columns, names=others.column_names)


def _texts(table: pa.Table) -> list[pa.ChunkedArray]:
    return [column for column in table.columns if pa.types.is_string(column.type)]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
