"""Rows of a table -> numbers: numpy and pyarrow, one code for training, verification and serving.

A row is a dict from column to value, as JSON or `pyarrow.Table.to_pylist` gives it. Scaling belongs
into the model's graph; here missing numbers are filled, and text becomes one number per value.
"""

import hashlib
import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from mlstack import parquet
from mlstack.errors import DataError
from mlstack.inputs import separated
from mlstack.inputs.separated import MISSING
from mlstack.inputs.stored import convert

NAMES = ("table.parquet", "table.csv")
MOST_VALUES = 200  # of a text column; more are names or free text, of which nothing is learned
TAKEN = ("prediction", "confidence")  # columns of what is monitored beside the inputs
PLAIN = re.compile(r"(?!(true|false|null|y|n|yes|no|on|off)$)[^\W\d]\w*", re.I)  # needs no quotes
SHOWN_FIELDS = 4  # of the columns of a row, where one is described
LOGICAL = frozenset({"true", "false"})
OTHER = "(other)"  # the value of a text that training has not seen
LARGEST = float(np.finfo(np.float32).max)

Row = dict[str, Any]


@dataclass(frozen=True)
class TableSpec:
    """How rows become an array: learned from the training rows, kept with the model."""

    numbers: dict[str, float]  # column -> what stands for a missing value, the mean of training
    categories: dict[str, list[str]]  # column -> its known values, in the order of their codes

    @property
    def columns(self) -> list[str]:
        """Name the columns, numbers first."""
        return [*self.numbers, *self.categories]

    @property
    def fields(self) -> list[str]:
        """Name what a row must hold."""
        return self.columns

    @property
    def texts(self) -> list[str]:
        """Name the columns that hold text; true and false are none."""
        return [name for name, values in self.categories.items() if not LOGICAL.issuperset(values)]

    @property
    def width(self) -> int:
        """Count the features of an encoded row."""
        return len(self.numbers) + sum(len(values) + 1 for values in self.categories.values())

    @property
    def origins(self) -> list[str]:
        """Name the column that each feature of an encoded row comes from."""
        coded = [name for name, values in self.categories.items() for _ in range(len(values) + 1)]
        return [*self.numbers, *coded]

    @cached_property
    def _codes(self) -> dict[str, dict[str | None, float]]:
        """The code of each text of each column; NaN where it is missing."""
        found: dict[str, dict[str | None, float]] = {}
        for name, values in self.categories.items():
            found[name] = dict.fromkeys((None, *MISSING), math.nan)
            found[name] |= {value: float(code) for value, code in codes_of(values).items()}
        return found

    def to_json(self) -> dict[str, Any]:
        """Give what `signature.json` keeps under `preprocess`."""
        return {"kind": "table", "numbers": self.numbers, "categories": self.categories}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "TableSpec":
        """Read what `to_json` gave.

        Raises:
            DataError: it describes something else.
        """
        return convert(stored, "table", cls, ("numbers", "categories"))

    def encode(self, rows: list[Row]) -> np.ndarray:
        """Turn rows into float32 of shape (rows, width), the graph's input.

        Numbers first, a missing one filled; then for each text column one 0 or 1 per known value
        and one for any other value, all 0 where it is missing. Further columns are ignored.

        Raises:
            DataError: a value is of the wrong type or its column is not there; row and column are
                named, as `where` too.
        """
        return self.widen(self.describe(rows))

    def read(self, rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
        """Give rows encoded, and what is monitored of them.

        Raises:
            DataError: as `encode`.
        """
        described = self.describe(rows)
        return self.widen(described), described

    def describe(self, rows: list[Row]) -> np.ndarray:
        """Give a number per column: the value, or the code of a text; NaN where it is missing.

        Raises:
            DataError: as `encode`.
        """
        described = np.empty((len(rows), len(self.columns)), dtype=np.float32)
        for place, name in enumerate(self.numbers):
            described[:, place] = column_of(rows, name, _number)
        for place, (name, values) in enumerate(self.categories.items(), start=len(self.numbers)):
            codes, other = self._codes[name], float(len(values))
            described[:, place] = [
                codes.get(value, other) for value in column_of(rows, name, _text)
            ]
        return described

    def widen(self, described: np.ndarray) -> np.ndarray:
        """Turn what `describe` gave into what `encode` gives."""
        count = len(self.numbers)
        fills = np.array([*self.numbers.values()], dtype=np.float32)
        numbers = described[:, :count]
        # A CSV column of -0.0 alone comes back as whole numbers, which know one zero.
        blocks = [np.where(np.isnan(numbers), fills, numbers) + np.float32(0)]
        for place, values in enumerate(self.categories.values(), start=count):
            blocks.append(described[:, place : place + 1] == np.arange(len(values) + 1))
        return np.concatenate(blocks, axis=1, dtype=np.float32)

    def narrow(self, encoded: np.ndarray) -> np.ndarray:
        """Turn what `encode` gave into what `describe` gave, but that filled values stay filled."""
        at = len(self.numbers)
        blocks = [encoded[:, :at]]
        for values in self.categories.values():
            block = encoded[:, at : at + len(values) + 1]
            at += len(values) + 1
            code = np.where(block.any(axis=1), block.argmax(axis=1), np.nan)
            blocks.append(code[:, None])
        return np.concatenate(blocks, axis=1, dtype=np.float32)


def learn(rows: list[Row], columns: list[str]) -> TableSpec:
    """Learn from training rows how to encode any.

    Raises:
        DataError: a column is empty or mixed, its name is taken, or it is text of too many values.
    """
    numbers: dict[str, float] = {}
    categories: dict[str, list[str]] = {}
    for name in columns:
        if name in TAKEN:
            raise DataError(f"a column cannot be called `{name}`", hint="rename it in the table")
        known = [value for row in rows if not _is_missing(value := row.get(name))]
        if not known:
            raise DataError(f"column `{name}` is empty in the training rows", hint=leave_out(name))
        if isinstance(known[0], str | bool):
            categories[name] = sorted(set(column_of(rows, name, _text)) - {None, ""})
            if len(categories[name]) > MOST_VALUES:
                raise DataError(
                    f"column `{name}` holds {len(categories[name])} different texts; "
                    f"{MOST_VALUES} are learned at most",
                    hint=leave_out(name),
                )
        else:
            values = column_of(rows, name, _number)
            numbers[name] = float(np.nanmean(values))
    if not numbers and not categories:
        raise DataError("the table has no columns to learn from")
    return TableSpec(numbers, categories)


def find(folder: Path) -> Path | None:
    """Find the table of a dataset folder."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def read(path: Path, kind: str = "", texts: Collection[str] = ()) -> pa.Table:
    """Read `table.csv` or `table.parquet`: numbers, texts and true/false.

    Args:
        path: the file.
        kind: its name, where it is kept under another one.
        texts: columns of a CSV file that are text, whatever their values look like.

    Raises:
        DataError: it cannot be read, a column is there twice, or holds something else.
    """
    is_parquet = (kind or path.name).endswith(".parquet")
    try:
        if not is_parquet and separated.is_utf16(path):
            raise DataError(f"`{path}` is text in UTF-16", hint="save it as CSV in UTF-8")
        table = parquet.read(path) if is_parquet else separated.read(path, texts)
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror or error}") from error
    except pa.ArrowException as error:
        first = str(error).splitlines()[0][:200]
        raise DataError(f"`{path}` is not a table: {first}", hint="mend the file") from error
    names = table.column_names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"`{path}` has the column `{twice}` twice", hint="rename one of them")
    if not table.num_rows:
        raise DataError(f"`{path}` has no rows", hint="put one example a row into it")
    return pa.table({name: _plain(table[name], name, path) for name in names})


def chosen(examples: pa.Table) -> pa.Table:
    """Read the rows that the examples of a run name by `path` and `row`, as a table.

    Raises:
        DataError: the table cannot be read, or has become shorter since the run was planned.
    """
    if not examples.num_rows:
        return pa.table({})
    path = Path(examples["path"][0].as_py())
    table = read(path)
    if examples["row"].to_numpy().max() >= table.num_rows:
        raise DataError(
            f"`{path}` has {table.num_rows} rows, fewer than when the run was planned",
            hint="train again",
        )
    return table.take(examples["row"])


def select(examples: pa.Table) -> list[Row]:
    """Read the rows that the examples of a run name by `path` and `row`.

    Raises:
        DataError: as `chosen`.
    """
    return list(chosen(examples).to_pylist())


def missing_shares(table: pa.Table) -> dict[str, float]:
    """Give the share of missing values of each column."""
    return {
        name: sum(map(_is_missing, table[name].to_pylist())) / table.num_rows
        for name in table.column_names
    }


def read_row(path: Path) -> Row:
    """Read a file of one row as JSON.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror}") from error
    try:
        return decode_row(content)
    except DataError as error:
        raise DataError(f"{path}: {error.problem}", hint=error.hint) from error


def decode_row(content: bytes) -> Row:
    """Turn JSON into a row.

    Raises:
        DataError: it is not a JSON object.
    """
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(
            f"not a row: {error}", hint='a row is JSON such as {"age": 31, "city": "Bern"}'
        ) from error


def such_as(fields: Sequence[str]) -> str:
    """Say what a row with these columns looks like."""
    named = [f"{msgspec.json.encode(name).decode()}: ..." for name in fields[:SHOWN_FIELDS]]
    more = ["..."] if len(fields) > SHOWN_FIELDS else []
    return f"a row is JSON such as {{{', '.join(named + more)}}}"


def encode_row(row: Row) -> bytes:
    """Turn a row into JSON."""
    return msgspec.json.encode(row)


def contents(rows: list[Row], label: str) -> list[str]:
    """Name each row by what it holds beside its label: equal names, equal rows."""
    return [_content([(name, row[name]) for name in sorted(row) if name != label]) for row in rows]


def class_of(value: Any) -> str:
    """Name the class that a value of the label column stands for; empty where it is missing."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if _is_missing(value) else str(value)


def _plain(column: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    """Give a column as numbers, texts or true/false; times become text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type), name, path)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return column
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_temporal(kind):
        return column.cast(pa.string())
    if pa.types.is_binary(kind) and path.suffix == ".csv":  # what pyarrow makes of other bytes
        raise DataError(
            f"column `{name}` of `{path}` is not UTF-8 text", hint="save it as CSV in UTF-8"
        )
    raise DataError(
        f"column `{name}` of `{path}` holds {kind}; a table holds numbers, text and true/false",
        hint="leave it out of the file",
    )


def _content(pairs: list[tuple[str, Any]]) -> str:
    return hashlib.md5(repr(pairs).encode(), usedforsecurity=False).hexdigest()


def column_of(rows: list[Row], name: str, read_value: Callable[[Any], Any]) -> list[Any]:
    """Read one value of each row; a wrong one is named by its row, counted from 1, and column."""
    found = []
    for place, row in enumerate(rows):
        where = f"rows[{place}].{name}"
        if name not in row:
            raise DataError(
                f"row {place + 1} has no column `{name}`",
                hint="send null where a value is missing; the first row is 1",
                where=where,
            )
        try:
            found.append(read_value(row[name]))
        except ValueError as error:
            raise DataError(
                f"row {place + 1}, column `{name}`: {error}",
                hint="mend the value, or leave it empty; the first row is 1",
                where=where,
            ) from error
    return found


def codes_of(values: list[str]) -> dict[str, int]:
    """Give the code of each known text; true and false are known however CSV writes them."""
    codes = {value: code for code, value in enumerate(values)}
    lower = [value.lower() for value in values]
    if LOGICAL.issuperset(lower) and len(set(lower)) == len(lower):
        codes |= {
            form: code
            for code, value in enumerate(lower)
            for form in (value, value.title(), value.upper())  # those that pyarrow reads
        }
    return codes


def _number(value: Any) -> float:
    if _is_missing(value) or (isinstance(value, str) and value in MISSING):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"needs a number, got {shown(value)}")
    if abs(value) > LARGEST:
        raise ValueError(f"{shown(value)} is too large or not finite")
    return float(value)


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        raise ValueError(f"needs a text, got {shown(value)}")
    return value


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def shown(value: Any) -> str:
    """Write a value for an error: what it is, and how it begins."""
    kinds = {str: "the text ", bool: "the truth value ", dict: "an object ", list: "a list "}
    return f"{kinds.get(type(value), '')}`{str(value)[:40]}`"


def leave_out(name: str) -> str:
    """Say what to type to learn nothing from a column, whatever its name holds."""
    return f"leave it out: `data.args.ignore: [{quoted(name)}]` in mlstack.yaml"


def quoted(name: str) -> str:
    """Write a column's name for YAML."""
    return name if PLAIN.fullmatch(name) else msgspec.json.encode(name).decode()
