"""Features as they were known at a moment: one code for training and for serving (DuckDB).

A feature file is Parquet with a column of keys, a column of times and columns of values: from that
time on, this was known of that key. A row of the table names a key and a time, and gets of each
file the newest values that are not later than it. A value from the row's future never leaks in.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from mlstack.config.duration import seconds
from mlstack.errors import ConfigError, DataError, MlstackError
from mlstack.inputs.tables import Row

MEMORY_MB = 600  # beyond it, DuckDB goes to the disk
# No extension is fetched, and Python variables are no tables.
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    "preserve_insertion_order": False,
}
RESERVED = ("__key", "__time", "__place", "__known")
FOREVER_US = 1 << 62
ASOF = """
WITH rows AS (
  SELECT __place, CAST(__key AS {kind}) AS __key,
    CAST(CAST(__time AS TIMESTAMPTZ) AS TIMESTAMP) AS __time
  FROM asked
)
SELECT rows.__place, known.__time AS __known, {values}
FROM rows ASOF LEFT JOIN
  (SELECT * FROM {relation} WHERE __key IN (SELECT __key FROM rows)) AS known
ON rows.__key = known.__key AND rows.__time >= known.__time
ORDER BY rows.__place
"""
TWICE = """
SELECT __key, __time FROM {relation}
WHERE (__key, __time) IN (SELECT CAST(__key AS {kind}), __time FROM found)
GROUP BY ALL HAVING count(*) > 1 LIMIT 1
"""


@dataclass(frozen=True)
class FeatureSpec:
    """Which files are joined to the rows of a table, and how."""

    key: str  # column of the table and of every file
    time: str  # likewise
    files: tuple[str, ...]  # below the dataset's folder
    ttl_s: float | None = None  # what is older counts as missing

    @classmethod
    def from_settings(cls, given: dict[str, Any]) -> "FeatureSpec":
        """Read `data.features` as the config and the package hold it."""
        ttl_s = seconds(given["ttl"] or "")
        return cls(given["key"], given["time"], tuple(given["files"]), ttl_s or None)


@dataclass(frozen=True)
class _File:
    """One feature file, opened."""

    path: Path
    kind: str  # type of its keys, as SQL names it
    values: tuple[str, ...]  # columns that it adds


class Features:
    """The feature files of a project, opened; used as a context manager."""

    def __init__(self, spec: FeatureSpec, folder: Path, *, keep: bool = False) -> None:
        """Open the files.

        Args:
            spec: which.
            folder: the dataset.
            keep: hold them in memory, sorted, for many small questions; else they are read from
                the disk by each one.

        Raises:
            DataError: a file is missing, or lacks a column.
            ConfigError: two files give a column of one name.
        """
        self.spec = spec
        self._folder = folder
        self._keep = keep
        self._files: list[_File] = []
        self._tried: list[int] = []  # how the files were when they were last opened
        self._problems: list[str] = []
        self._held = ExitStack()
        limits = {}
        if not keep:
            spill = self._held.enter_context(tempfile.TemporaryDirectory(prefix="mlstack-"))
            limits = {"memory_limit": f"{MEMORY_MB}MB", "temp_directory": spill}
        self._database = self._held.enter_context(duckdb.connect(config=SETTINGS | limits))
        self._database.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Features":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give memory and files back."""
        self._held.close()

    @property
    def columns(self) -> list[str]:
        """Name the columns that rows get, in order."""
        return [name for file in self._files for name in file.values]

    def attach(self, rows: pa.Table) -> pa.Table:
        """Give rows the values that were known at their time, instead of key and time.

        Args:
            rows: have the columns `spec.key` and `spec.time` (a time, or text in ISO 8601; without
                a zone it is UTC).

        Returns:
            The same rows in the same order, without the two, with a column a feature; null where
            nothing was known, or nothing newer than the time to live.

        Raises:
            DataError: a key or a time cannot be read, or a file has two rows of one key and time.
            ConfigError: the rows have a column of that name already.
        """
        self._refresh()
        self._refuse_missing(rows)
        asked = pa.table(
            {
                "__place": pa.array(range(rows.num_rows), pa.int64()),
                "__key": rows[self.spec.key],
                "__time": rows[self.spec.time],
            }
        )
        found = rows.drop_columns([self.spec.key, self.spec.time])
        self._database.register("asked", asked)
        try:
            for number, file in enumerate(self._files):
                known = self._known(number, file, asked)
                for name in file.values:
                    found = found.append_column(name, known[name])
        except (duckdb.ConversionException, duckdb.InvalidInputException) as error:
            raise DataError(
                f"a key or a time of the table cannot be read: {_first_line(error)}",
                hint=f"look at the columns `{self.spec.key}` and `{self.spec.time}`",
            ) from error
        finally:
            self._database.unregister("asked")
        return found

    def fill(self, rows: list[Row], now: str) -> list[Row]:
        """Give rows as a request sends them what `attach` gives a table.

        Args:
            rows: as JSON gives them; where none names a key, they bring the values themselves.
            now: the time, in ISO 8601, of rows that name none.

        Raises:
            DataError: as `attach`.
        """
        if not any(self.spec.key in row for row in rows):
            return rows
        asked = pa.table(
            {
                self.spec.key: [_text(row.get(self.spec.key)) for row in rows],
                self.spec.time: [_text(row.get(self.spec.time, now)) for row in rows],
            },
            schema=pa.schema([(self.spec.key, pa.string()), (self.spec.time, pa.string())]),
        )
        known = self.attach(asked).to_pylist()
        return [found | row for found, row in zip(known, rows, strict=True)]

    def _known(self, number: int, file: _File, asked: pa.Table) -> pa.Table:
        oldest_us = FOREVER_US if self.spec.ttl_s is None else int(self.spec.ttl_s * 1e6)
        age = f"epoch_us(rows.__time) - epoch_us(known.__time) > {oldest_us}"
        values = ", ".join(
            f"CASE WHEN {age} THEN NULL ELSE known.{column} END AS {column}"
            for column in map(_quoted, file.values)
        )
        relation = f"file{number}"
        statement = ASOF.format(kind=file.kind, values=values, relation=relation)
        known = self._database.sql(statement).to_arrow_table()
        if not self._keep:
            self._refuse_twice(number, file, asked, known)
        return known

    def _refuse_twice(self, number: int, file: _File, asked: pa.Table, known: pa.Table) -> None:
        """Refuse a moment that has two values: which of them is taken would be chance."""
        found = pa.table({"__key": asked["__key"], "__time": known["__known"]})
        self._database.register("found", found)
        statement = TWICE.format(relation=f"file{number}", kind=file.kind)
        twice = self._database.execute(statement).fetchall()
        self._database.unregister("found")
        for key, moment in twice:
            raise DataError(
                f"`{file.path.name}` has two rows of `{self.spec.key}` {key} at {moment}",
                hint="keep one of them: which one counts would be chance",
            )

    def _refuse_missing(self, rows: pa.Table) -> None:
        for name in (self.spec.key, self.spec.time):
            if name not in rows.column_names:
                raise DataError(
                    f"the rows have no column `{name}`, by which features are looked up",
                    hint=f"they have {', '.join(rows.column_names[:12])}",
                )
        if both := [name for name in self.columns if name in rows.column_names]:
            raise ConfigError(
                f"data.features: the table has the column `{both[0]}` already",
                hint="rename it in the feature file",
            )

    def problems(self) -> list[str]:
        """Give what has gone wrong with files that were replaced, once."""
        found, self._problems = self._problems, []
        return found

    def _refresh(self) -> None:
        """Open files anew that were replaced; what is held in memory outlives one that is broken.

        Somebody may be writing it, or have forgotten a column: the rows of a request are still
        answered by what was known before.
        """
        now = self._mtimes()
        if now == self._tried:
            return
        try:
            self._open()
        except MlstackError as error:
            if not self._keep:
                raise
            self._problems.append(f"{error.problem}; the values that were read before are used")
        self._tried = now

    def _mtimes(self) -> list[int]:
        paths = [self._folder / name for name in self.spec.files]
        return [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]

    def _open(self) -> None:
        tried = self._mtimes()
        self._files = [self._opened(number, name) for number, name in enumerate(self.spec.files)]
        self._tried = tried
        names = self.columns
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(
                f"data.features: two files give the column `{twice}`", hint="rename one of them"
            )

    def _opened(self, number: int, name: str) -> _File:
        path = self._folder / name
        try:
            schema = pq.read_schema(path)
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"data.features: `{name}` cannot be read: {_first_line(error)}",
                hint="it is a Parquet file below the folder of the dataset",
            ) from error
        for column in (self.spec.key, self.spec.time):
            if column not in schema.names:
                raise DataError(
                    f"data.features: `{name}` has no column `{column}`",
                    hint=f"it has {', '.join(schema.names[:12])}",
                )
        values = tuple(one for one in schema.names if one not in (self.spec.key, self.spec.time))
        self._refuse_odd(name, schema, values)
        if self._files and values != self._files[number].values:
            raise DataError(
                f"data.features: `{name}` has other columns than when it was opened",
                hint="train and export again, or write the columns that it had",
            )
        kind = self._held_as(number, name)
        return _File(path, kind, values)

    def _refuse_odd(self, name: str, schema: pa.Schema, values: tuple[str, ...]) -> None:
        lower = [column.lower() for column in schema.names]  # SQL takes them for the same
        if twice := next((one for one in schema.names if lower.count(one.lower()) > 1), None):
            raise DataError(
                f"data.features: `{name}` has two columns `{twice}`, upper and lower case aside",
                hint="rename one of them",
            )
        if reserved := next((one for one in values if one.lower() in RESERVED), None):
            raise DataError(
                f"data.features: `{name}` has a column `{reserved}`, which is a name of ours",
                hint="rename it",
            )
        if not _is_time(kind := schema.field(self.spec.time).type):
            raise DataError(
                f"data.features: `{self.spec.time}` of `{name}` holds {kind}; a time is a "
                "timestamp, a date or a text in ISO 8601",
                hint='of seconds since 1970 pandas makes times: `pd.to_datetime(..., unit="s")`',
            )
        for column in values:
            if not _is_plain(kind := schema.field(column).type):
                raise DataError(
                    f"data.features: column `{column}` of `{name}` holds {kind}; a feature is a "
                    "number, a text or true/false",
                    hint="leave it out of the file",
                )

    def _held_as(self, number: int, name: str) -> str:
        """Make the relation of a file; give the type of its keys."""
        source = f"read_parquet('{_escaped(self._folder / name)}')"
        time = _quoted(self.spec.time)
        try:
            self._database.execute(
                f"CREATE OR REPLACE {'TABLE' if self._keep else 'VIEW'} file{number} AS "
                f"SELECT {_quoted(self.spec.key)} AS __key, CAST({time} AS TIMESTAMP) AS __time, "
                f"* EXCLUDE ({_quoted(self.spec.key)}, {time}) FROM {source}"
                + (" ORDER BY __key, __time" if self._keep else "")
            )
            described = self._database.execute(f"DESCRIBE file{number}").fetchall()
            # A text that is no time is found now, and not by whoever asks for a row.
            self._database.execute(f"SELECT max(__time) FROM file{number}").fetchall()
        except duckdb.Error as error:
            raise DataError(
                f"data.features: `{name}` cannot be read: {_first_line(error)}",
                hint=f"look at its column `{self.spec.time}`",
            ) from error
        return cast("str", described[0][1])


def _is_time(kind: pa.DataType) -> bool:
    tests = (pa.types.is_timestamp, pa.types.is_date, pa.types.is_string, pa.types.is_large_string)
    return any(test(kind) for test in tests)


def _is_plain(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    texts = (pa.types.is_string, pa.types.is_large_string)
    return any(test(kind) for test in (*tests, *texts))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _escaped(path: Path) -> str:
    return str(path).replace("'", "''")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
