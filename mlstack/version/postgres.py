"""A table or a query of Postgres as a source: read in one transaction, kept as Parquet."""

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
from mlstack.config.data_sections import Data
from mlstack.errors import DataError
from mlstack.launch.postgres import Address, connected
from mlstack.records.base import Record
from mlstack.version.result import Read

ROWS = 20_000  # of one fetch, and of one row group
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


def read(data: Data, target: Path) -> Iterator[Record]:
    """Write the rows of a table or a query into a Parquet file.

    Rows of a table come by its primary key, or by all columns where it has none, so that the same
    content gives the same file; those of a query come as it says.

    Raises:
        ConfigError: the server refuses who asks, or does not understand what is asked.
        DataError: a column holds what a table cannot, or there are no rows.
        BusyError: the server cannot be reached.
    """
    with _connected(data) as connection:
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
    address = Address(data.source, data.password, "data.source", "data.password")
    with connected(address) as connection:
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
