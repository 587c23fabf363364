"""Two states of a Parquet or CSV file, row by row: the only module here that imports duckdb.

Rows are told apart by 64-bit hashes in one grouping over both files, which spills to the disk when
it has to (`rows.py`); only rows that differ are then read again, column by column. `EXCEPT ALL`
does the same in several times the time and memory (benchmarks/version_tables.py).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from dataclasses import replace as with_fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
from msgspec.structs import replace

from mlstack.errors import ConfigError, DataError, MachineError
from mlstack.inputs.separated import MARKS, MISSING, delimiter
from mlstack.version import rows
from mlstack.version.difference import Retyped, TableChange
from mlstack.version.rows import Columns, one, quoted, text

SUFFIXES = (".parquet", ".csv", ".tsv")
KEYS = ("id", "path", "key", "uuid", "guid", "index", "row_id", "image", "file", "filename")
LINE_BYTES = 64 << 20  # longest line that is read; DuckDB's own limit of 2 MB spares memory
UNIQUE = 0.85  # of the rows, as HyperLogLog counts them, make a column worth a try as key
KEY_TYPES = ("INT", "VARCHAR", "UUID", "DATE", "TIMESTAMP")  # floats name nothing
# Of a CSV file. BOOLEAN is none: DuckDB takes `yes` and `no` for it and would show true and false.
KINDS = ["NULL", "BIGINT", "DOUBLE", "TIME", "DATE", "TIMESTAMP", "VARCHAR"]
AS_TEXT = "a column has values of several types, so all are compared as they are written"
INTEGERS = {f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG")}
INTEGERS |= {"INTEGER", "UINTEGER", "HUGEINT"}  # HUGEINT holds them all
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "512MB",  # the process stays under 1 GB
    "threads": min(4, os.cpu_count() or 1),  # each has buffers of its own in that memory
    "preserve_insertion_order": False,  # spares memory; answers are sorted where it matters
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


@dataclass(frozen=True)
class Wanted:
    """What to compare, and how."""

    path: str  # name of the file in the dataset
    before: Path
    after: Path
    scratch: Path  # folder for what does not fit into memory
    key: tuple[str, ...] = ()  # columns that name a row; empty: find one
    label: str | None = None  # column of the class
    out: Path | None = None  # where to write every row that differs
    as_text: bool = False  # take every value of a CSV file as it is written
    long_lines: bool = False  # allow lines of a CSV file that DuckDB refuses


class Watch:
    """How far a comparison is, asked from another thread; and the way to stop it."""

    def __init__(self) -> None:
        self._connection: Any = None

    def begin(self, connection: Any) -> None:
        """Watch the queries of a connection; DuckDB itself prints nothing."""
        connection.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
        self._connection = connection

    def percent(self) -> float:
        """Give how far the present query is; 0 between queries."""
        with suppress(duckdb.ConnectionException):  # closed a moment ago
            return max(0.0, self._connection.query_progress()) if self._connection else 0.0
        return 100.0

    def stop(self) -> None:
        """End the present query with an error."""
        with suppress(duckdb.ConnectionException):
            if self._connection is not None:
                self._connection.interrupt()


def is_table(path: str) -> bool:
    """Tell whether a file is one whose rows can be compared."""
    return path.lower().endswith(SUFFIXES)


def compare(wanted: Wanted, watch: Watch) -> TableChange:
    """Compare two states of a table by key, or by whole rows where no column is one.

    A file that cannot be read is a `problem` of the answer: the rest of a diff is worth having.

    Raises:
        ConfigError: a column that was named as key is not there, or does not name rows.
        MachineError: the disk is too small for what does not fit into memory.
    """
    try:
        with _opened(wanted.path, wanted.scratch) as connection:
            watch.begin(connection)
            return _compare(connection, wanted)
    except DataError as error:
        if isinstance(error.__cause__, duckdb.ConversionException) and not wanted.as_text:
            return compare(with_fields(wanted, as_text=True), watch)
        if _is_long_line(error.__cause__) and not wanted.long_lines:
            return compare(with_fields(wanted, long_lines=True), watch)
        return TableChange(path=wanted.path, problem=error.problem, hint=error.hint)


def classes(table: Path, name: str, label: str, scratch: Path) -> dict[str, int]:
    """Count the rows of each class of one table; none when it has no column `label`.

    Raises:
        DataError: it cannot be read.
    """
    wanted = Wanted(name, table, table, scratch)
    try:
        return _counted(wanted, label)
    except DataError as error:
        if not _is_long_line(error.__cause__):
            raise
    return _counted(with_fields(wanted, long_lines=True), label)


def _counted(wanted: Wanted, label: str) -> dict[str, int]:
    with _opened(wanted.path, wanted.scratch) as connection:
        columns = _read(connection, "raw_before", wanted.before, wanted)
        return _classes(connection, "raw_before", quoted(label)) if label in columns else {}


def _compare(connection: Any, wanted: Wanted) -> TableChange:
    before = _read(connection, "raw_before", wanted.before, wanted)
    after = _read(connection, "raw_after", wanted.after, wanted)
    names = [name for name in before if name in after]
    if not names:
        raise DataError(
            f"`{wanted.path}` has no column that it had before",
            hint="was its delimiter changed, or its first line lost?",
        )
    change = TableChange(
        path=wanted.path,
        rows_before=one(connection, "SELECT count(*) FROM raw_before"),
        rows_after=one(connection, "SELECT count(*) FROM raw_after"),
        columns_added={name: kind for name, kind in after.items() if name not in before},
        columns_removed={name: kind for name, kind in before.items() if name not in after},
        columns_retyped=[
            Retyped(name=name, before=before[name], after=after[name])
            for name in names
            if before[name] != after[name]
        ],
        notes=[*_delimiters(wanted), *([AS_TEXT] if wanted.as_text else [])],
    )
    _align(connection, [(name, before[name], after[name]) for name in names])
    label = names.index(wanted.label) if wanted.label in names else None
    if label is not None:
        change = replace(
            change,
            classes_before=_classes(connection, "before", f"c{label}"),
            classes_after=_classes(connection, "after", f"c{label}"),
        )
    for key in _candidates(connection, wanted, names, before):
        columns = Columns(names, key, label)
        twice = rows.group_by_key(connection, columns)
        if not twice:
            return rows.by_key(connection, change, columns, wanted.out)
        _refuse_given(wanted, twice)
    return rows.by_content(connection, change, Columns(names, [], label), wanted.out)


# What is compared


def _read(connection: Any, view: str, place: Path, wanted: Wanted) -> dict[str, str]:
    """Make a view of a file; give its columns and their types.

    No line is a comment or comes before the header, as training reads it: DuckDB would guess.
    """
    name = wanted.path
    if not place.is_file():
        raise DataError(f"`{name}` is not in the cache", hint="type `mlstack version pull`")
    if name.lower().endswith(".parquet"):
        source = f"read_parquet({text(place)}, hive_partitioning = false)"
    else:
        missing = ", ".join(text(word) for word in MISSING)
        longest = f"max_line_size = {LINE_BYTES}, buffer_size = {LINE_BYTES}, "
        source = (
            f"read_csv({text(place)}, delim = {text(delimiter(place))}, header = true, "
            f"quote = '\"', escape = '\"', sample_size = 200000, nullstr = [{missing}], "
            f"comment = '', skip = 0, all_varchar = {wanted.as_text}, "
            f"{longest if wanted.long_lines else ''}hive_partitioning = false, "
            f"auto_type_candidates = {KINDS})"
        )
    connection.execute(f"CREATE OR REPLACE VIEW {view} AS FROM {source}")
    described = connection.execute(f"DESCRIBE {view}").fetchall()
    return {column: kind for column, kind, *_ in described}


def _delimiters(wanted: Wanted) -> list[str]:
    if wanted.path.lower().endswith(".parquet"):
        return []
    before, after = delimiter(wanted.before), delimiter(wanted.after)
    said = f"its values were separated by {MARKS[before]}, and are now by {MARKS[after]}"
    return [said] if before != after else []


def _align(connection: Any, columns: list[tuple[str, str, str]]) -> None:
    """Make the views `before` and `after` of the columns that both have, of equal types."""
    for side in rows.SIDES:
        parts = []
        for place, (name, old, new) in enumerate(columns):
            kind = old if old == new else _common(old, new)
            parts.append(f"CAST({quoted(name)} AS {kind}) AS c{place}")
        connection.execute(
            f"CREATE OR REPLACE VIEW {side} AS SELECT {', '.join(parts)} FROM raw_{side}"
        )


def _common(old: str, new: str) -> str:
    if {old, new} <= INTEGERS:
        return "HUGEINT"
    numbers = ("INT", "FLOAT", "DOUBLE", "DECIMAL")
    both = all(any(word in kind for word in numbers) and "[" not in kind for kind in (old, new))
    return "DOUBLE" if both and "INTERVAL" not in (old, new) else "VARCHAR"


def _candidates(
    connection: Any, wanted: Wanted, names: list[str], kinds: dict[str, str]
) -> Iterator[list[int]]:
    """Give the columns that may name a row: those asked for, or those that look like it."""
    if wanted.key:
        for name in wanted.key:
            if name not in names:
                raise ConfigError(
                    f"--key: `{wanted.path}` has no column `{name}` on both sides",
                    hint=f"both have {', '.join(names[:12])}",
                )
        yield [names.index(name) for name in wanted.key]
        return
    lower = [name.lower() for name in names]
    likely = [lower.index(name) for name in KEYS if name in lower]
    likely += [place for place, name in enumerate(lower) if name.endswith("_id")]
    for place in dict.fromkeys([*likely, 0]):
        if kinds[names[place]].startswith("FLOAT") or not any(
            word in kinds[names[place]] for word in KEY_TYPES
        ):
            continue
        if all(_is_nearly_unique(connection, side, place) for side in rows.SIDES):
            yield [place]


def _is_nearly_unique(connection: Any, side: str, place: int) -> bool:
    query = f"SELECT approx_count_distinct(c{place}) >= {UNIQUE} * count(*) FROM {side}"
    return bool(one(connection, query))


def _refuse_given(wanted: Wanted, twice: int) -> None:
    if wanted.key:
        raise ConfigError(
            f"--key: {twice} values of `{', '.join(wanted.key)}` name more than one row of "
            f"`{wanted.path}`",
            hint="repeat --key to name rows by several columns",
        )


def _classes(connection: Any, view: str, column: str) -> dict[str, int]:
    query = f"SELECT CAST({column} AS VARCHAR) AS c, count(*) FROM {view} GROUP BY c ORDER BY c"
    return {name: count for name, count in connection.execute(query).fetchall() if name}


# DuckDB


@contextmanager
def _opened(name: str, scratch: Path) -> Iterator[Any]:
    """Open an empty database that keeps what does not fit into memory in a folder of its own."""
    scratch.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=scratch, prefix="rows-") as folder:
        settings = {**SETTINGS, "temp_directory": folder}
        with duckdb.connect(":memory:", config=settings) as connection:
            try:
                yield connection
            except (RuntimeError, duckdb.Error) as error:
                raise _translated(error, name) from error


def _translated(error: Exception, name: str) -> BaseException:
    first = next(iter(str(error).splitlines()), type(error).__name__)[:200]
    if "interrupted" in first.lower():  # what duckdb makes of a Ctrl-C that falls into a query
        return KeyboardInterrupt()
    if isinstance(error, duckdb.OutOfMemoryException) or "No space left" in first:
        return MachineError(
            f"`{name}` could not be compared: {first}", hint="free some space on this disk"
        )
    if "not utf-8 encoded" in str(error):
        return DataError(f"`{name}` is no text in UTF-8", hint="save it as CSV in UTF-8")
    if _is_long_line(error):
        return DataError(
            f"a line of `{name}` is longer than {LINE_BYTES >> 20} MB",
            hint="keep such texts in files of their own, or the table as Parquet",
        )
    if "when sniffing file" in first:
        return DataError(
            f"the lines of `{name}` differ in how many values they have, their ends, or quotes",
            hint="save it anew as CSV, e.g. with a table program",
        )
    return DataError(
        f"`{name}` cannot be read as a table: {first}",
        hint="is it damaged or empty? `mlstack version verify` hashes what the cache holds",
    )


def _is_long_line(error: BaseException | None) -> bool:
    return isinstance(error, duckdb.Error) and "Maximum line size" in str(error)
