"""A table or a query of Postgres as a source: read in one transaction, kept as Parquet."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import psycopg.types.numeric
import psycopg.types.string
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from mlstack import files
from mlstack.config.schema import Data
from mlstack.errors import BusyError, ConfigError, DataError
from mlstack.records.base import Record
from mlstack.version.result import Read

ROWS = 20_000  # of one fetch, and of one row group
TIMEOUT_S = 10
TYPES = {
    "bool": pa.bool_(),
    "int2": pa.int64(),
    "int4": pa.int64(),
    "int8": pa.int64(),
    "float4": pa.float64(),
    "float8": pa.float64(),
    "numeric": pa.float64(),
    "text": pa.string(),
    "varchar": pa.string(),
    "bpchar": pa.string(),
    "uuid": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
}
PRIMARY = """
SELECT a.attname FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indrelid = %s::regclass AND i.indisprimary ORDER BY array_position(i.indkey, a.attnum)
"""
PASSING = ("starting up", "shutting down", "too many", "recovery")  # refusals that pass by


def read(data: Data, target: Path) -> Iterator[Record]:
    """Write the rows of a table or a query into a Parquet file.

    Rows of a table come by its primary key, or by all columns where it has none, so that the same
    content gives the same file; those of a query come as it says.

    Raises:
        ConfigError: the server refuses who asks, or does not understand what is asked.
        DataError: a column holds what a table cannot, or there are no rows.
        BusyError: the server cannot be reached.
    """
    with _told(data.source), _connected(data) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        statement = _statement(connection, data)
        with connection.cursor("mlstack") as cursor:
            cursor.itersize = ROWS
            cursor.execute(statement)
            schema = _schema(cursor)
            rows = 0
            with pq.ParquetWriter(target, schema) as writer:
                while batch := cursor.fetchmany(ROWS):
                    columns = zip(*batch, strict=True)
                    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
                    writer.write_batch(pa.record_batch(arrays, schema=schema))
                    rows += len(batch)
                    yield Read(rows=rows)
    if not rows:
        raise DataError(f"data.source: `{data.source}` gives no rows", hint="look at the query")
    files.sync_file(target)


@contextmanager
def _connected(data: Data) -> Iterator[Any]:
    options: dict[str, Any] = {"connect_timeout": TIMEOUT_S, "application_name": "mlstack"}
    if data.password is not None:
        name = data.password.removeprefix("env:")
        if name not in os.environ:
            raise ConfigError(
                f"data.password: the variable `{name}` is not set",
                hint=f"type `export {name}=...`, then try again",
            )
        options["password"] = os.environ[name]
    with psycopg.connect(data.source, **options) as connection:
        adapters = connection.adapters
        adapters.register_loader("numeric", psycopg.types.numeric.FloatLoader)
        adapters.register_loader("uuid", psycopg.types.string.TextLoader)
        yield connection


def _statement(connection: Any, data: Data) -> sql.Composable:
    if data.query is not None:
        return sql.SQL(data.query.strip().rstrip(";"))
    table = sql.Identifier(*(data.table or "").split("."))
    name = table.as_string(connection)
    keys = [sql.Identifier(key) for (key,) in connection.execute(PRIMARY, [name])]
    if not keys:
        probe = connection.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(table))
        keys = [sql.Identifier(column.name) for column in probe.description]
    order = sql.SQL(", ").join(keys)
    return sql.SQL("SELECT * FROM {} ORDER BY {}").format(table, order)


def _schema(cursor: Any) -> pa.Schema:
    """Find the Arrow type of each column."""
    fields = []
    for column in cursor.description:
        known = psycopg.adapters.types.get(column.type_code)
        kind = known.name if known else f"a type of its own ({column.type_code})"
        if kind not in TYPES:
            raise DataError(
                f"data.source: column `{column.name}` holds {kind}; a table holds numbers, text, "
                "times and true/false",
                hint=f"write `query: SELECT ... {column.name}::text ...`, or leave it out",
            )
        fields.append(pa.field(column.name, TYPES[kind]))
    names = [field.name for field in fields]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"data.query: it gives `{twice}` twice", hint="rename one with AS")
    return pa.schema(fields)


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Turn an error of the server into one of ours."""
    try:
        yield
    except psycopg.OperationalError as error:
        text = _first_line(error)
        if "FATAL" in str(error) and not any(word in str(error) for word in PASSING):
            raise ConfigError(
                f"data.source: the server refuses: {text}",
                hint="look at the URL and at data.password: env:NAME",
            ) from error
        raise BusyError(
            f"data.source: `{url}` cannot be reached: {text}", hint="is it there? Then try again"
        ) from error
    except psycopg.ProgrammingError as error:
        raise ConfigError(
            f"data.source: the server does not understand: {_first_line(error)}",
            hint="correct data.table or data.query",
        ) from error
    except psycopg.DataError as error:
        raise DataError(
            f"data.source: {_first_line(error)}", hint="cast it in data.query"
        ) from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        raise ConfigError(f"data.query: {_first_line(error)}", hint="only SELECT is run") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
