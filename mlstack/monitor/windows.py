"""The request log as windows of numbers: the only module that imports duckdb."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mlstack.errors import ConfigError, DataError
from mlstack.monitor import hours
from mlstack.records import requests
from mlstack.records.report import Rows, Service

Floats = npt.NDArray[np.float64]
MAX_PRINTED = 1000
DAY_ROWS = 200_000  # by which a distance is known to a few thousandths
DAY_CELLS = 20_000_000  # of a day that are in memory at once
MEMORY_MB = 600
TRUTH = """
WITH truth AS (SELECT prediction_id, arg_max(label, ts_us) AS label
               FROM answers GROUP BY prediction_id),
known AS (SELECT DISTINCT ON (prediction_id) prediction_id, prediction, confidence, ts_us
          FROM requests SEMI JOIN truth USING (prediction_id)
          WHERE model = $model AND version = $version AND prediction IS NOT NULL
          AND ts_us >= $since),
latest AS (SELECT prediction = label AS hit, confidence FROM known JOIN truth USING (prediction_id)
           ORDER BY known.ts_us DESC LIMIT $rows)
SELECT count(*), count(*) FILTER (hit),
       (SELECT count(*) FROM shown JOIN truth USING (prediction_id)), avg(confidence) FROM latest
"""
EXPLAIN = re.compile(r"^\s*explain\s+(analyze\s+)?(\([^()]*\)\s*)?", re.IGNORECASE)
# What nobody asked for is never loaded from anywhere, and Python variables are no tables.
SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C be Ctrl-C: duckdb turns one that falls into a query into an error of its own."""
    try:
        yield
    except (RuntimeError, duckdb.Error, DataError) as error:
        if "interrupted" in str(error).lower():
            raise KeyboardInterrupt from error
        raise


@dataclass(frozen=True)
class Selection:
    """Which predictions are meant: the last `rows` of one version, not before `since_us`."""

    model: str
    version: int
    rows: int
    since_us: int = 0


@dataclass(frozen=True)
class Window:
    """Predictions in the order of time; the arrays all have shape (rows,)."""

    ids: Any  # pyarrow array of strings
    times_us: npt.NDArray[np.int64]
    numeric: dict[str, Floats]  # features by their plain name, and confidence; NaN is missing
    predictions: npt.NDArray[np.int64]  # position in `classes`
    classes: list[str]  # predicted values that occur
    service: Service

    @property
    def rows(self) -> int:
        """How many predictions there are."""
        return len(self.times_us)

    def without(self, columns: list[str]) -> "Window":
        """Give the window without some columns, named as in the data or as in the log."""
        left_out = {name.removeprefix(requests.FEATURE) for name in columns} | set(columns)
        kept = {name: values for name, values in self.numeric.items() if name not in left_out}
        return replace(self, numeric=kept)


@dataclass(frozen=True)
class Labelled:
    """Predictions whose truth came in later."""

    labels: int
    correct: int
    labelled_in_window: int
    confidence: float | None = None  # mean of the labelled ones


@_interruptible()
def read(log: Path, selection: Selection) -> Window:
    """Read the last predictions of a version, and how the last requests were served.

    Finished parts are read newest first and only as many as are needed; rows still in write-ahead
    files are included, and rows that are in both count once.

    Raises:
        DataError: nothing was ever logged for the model, or a part is damaged.
    """
    with _connect() as connection:
        # Write-ahead files first: a row compacted in between is then seen twice, never lost.
        pending = _pending(log)
        parts = requests.parts(log, selection.model)
        if pending is None and not parts:
            raise DataError(
                f"no request to the model `{selection.model}` has been logged",
                hint="type `mlstack serve` and send it predictions",
                where=str(log),
            )
        parts = hours.since(parts, selection.since_us)
        wanted = selection.rows * 2
        while True:
            newest = _newest(parts, wanted)
            _create_view(connection, newest, pending)
            table = _predictions(connection, selection)
            if table.num_rows >= selection.rows or newest == parts:
                return _window(table, _service(connection, selection))
            wanted *= 8


@_interruptible()
def day(parts: list[Path], model: str, version: int) -> Window:
    """Read the predictions of a version in some finished parts, evenly thinned to `DAY_ROWS`.

    Of a table with very many columns there are fewer, `DAY_CELLS` values in all.

    Raises:
        DataError: a part is damaged, or was deleted meanwhile.
    """
    with _connect() as connection:
        _create_view(connection, parts, None)
        rows = sum(_rows(part) for part in parts)
        width = len(connection.execute("DESCRIBE requests").fetchall())
        every = max(1, -(-rows // min(DAY_ROWS, DAY_CELLS // width)))
        thinned = f"AND hash(prediction_id) % {every} = 0"
        table = _predictions(connection, Selection(model, version, rows), thinned)
        return _window(table, Service(requests=0, failed=0, refused=0, per_minute=0.0))


@_interruptible()
def labelled(log: Path, feedback: Path, selection: Selection, window: Window) -> Labelled | None:
    """Join late labels with the predictions of a version; None when there is no label.

    The last `selection.rows` labelled predictions since `selection.since_us` count, whether or not
    they are still in the window, because labels come late.
    """
    answers = _feedback(feedback)
    if answers is None:
        return None
    ids = sorted(answers["prediction_id"].unique().to_pylist(), reverse=True)  # the newest first
    with _connect() as connection:
        pending = _pending(log)
        parts = hours.since(requests.parts(log, selection.model), selection.since_us)
        connection.register("answers", answers)
        connection.register("shown", pa.table({"prediction_id": window.ids}))
        wanted = selection.rows * 2
        while True:
            _create_view(connection, hours.of_ids(parts, ids[:wanted]), pending)
            (row,) = connection.execute(
                TRUTH,
                {
                    "model": selection.model,
                    "version": selection.version,
                    "since": selection.since_us,
                    "rows": selection.rows,
                },
            ).fetchall()  # to the end: a result that is not holds the connection
            if row[0] >= selection.rows or wanted >= len(ids):
                return Labelled(*row) if row[0] else None
            wanted *= 8


@_interruptible()
def inputs(log: Path, model: str, asked: dict[str, int]) -> dict[str, bytes]:
    """Give the raw inputs of some predictions (id -> microseconds), as far as they were kept."""
    with _connect() as connection:
        pending = _pending(log)
        _create_view(connection, hours.at(requests.parts(log, model), asked.values()), pending)
        found = connection.execute(
            "SELECT DISTINCT ON (prediction_id) prediction_id, input FROM requests "
            "WHERE input IS NOT NULL AND list_contains($ids, prediction_id)",
            {"ids": list(asked)},
        ).fetchall()
    return {name: bytes(content) for name, content in found}


@_interruptible()
def query(log: Path, feedback: Path, sql: str) -> Rows:
    """Run one read-only query over the views `requests` and `feedback`.

    Raises:
        ConfigError: the query is wrong, is not one query, or wants to change something.
    """
    with _connect() as connection:
        pending = _pending(log)
        _create_view(connection, sorted(log.glob("model=*/date=*/hour=*/part-*.parquet")), pending)
        answers = _feedback(feedback)
        connection.register(
            "feedback", _empty(requests.FEEDBACK_SCHEMA) if answers is None else answers
        )
        connection.execute(f"SET allowed_directories = [{_quoted(log)}]")
        connection.execute("SET enable_external_access = false")
        try:
            return _answer(connection, sql)
        except duckdb.Error as error:
            raise ConfigError(
                str(error).strip(),
                hint="the tables are `requests` and `feedback`; "
                'type `mlstack monitor sql "DESCRIBE requests"` for their columns',
            ) from error


def _answer(connection: Any, sql: str) -> Rows:
    # What is explained may be run for it: `EXPLAIN ANALYZE COPY ...` writes.
    statements = connection.extract_statements(EXPLAIN.sub("", sql))
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise ConfigError(
            "`monitor sql` runs one query that only reads",
            hint='for example `mlstack monitor sql "SELECT count(*) FROM requests"`',
        )
    answer = connection.execute(sql)  # a parsed statement could not be interrupted
    columns = [column[0] for column in answer.description]
    rows = answer.fetchmany(MAX_PRINTED + 1)
    return Rows(
        columns=columns,
        rows=[[_plain(value) for value in row] for row in rows[:MAX_PRINTED]],
        truncated=len(rows) > MAX_PRINTED,
    )


def _plain(value: Any) -> str | int | float | bool | None:
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


@contextmanager
def _connect() -> Iterator[Any]:
    """Open a database without a file; what does not fit into its memory goes to the disk."""
    with tempfile.TemporaryDirectory(prefix="mlstack-", ignore_cleanup_errors=True) as spill:
        config = SETTINGS | {"memory_limit": f"{MEMORY_MB}MB", "temp_directory": spill}
        with duckdb.connect(":memory:", config=config) as connection:
            yield connection


def _create_view(connection: Any, parts: list[Path], pending: pa.Table | None) -> None:
    """Make `requests`: the rows of finished parts, and pending rows that are in none of them."""
    empty = _empty(requests.schema([]))
    connection.register("pending", empty if pending is None else pending)
    connection.register("nothing", empty)
    listed = ", ".join(_quoted(part) for part in parts)
    finished = f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
    try:
        connection.execute(
            f"CREATE OR REPLACE VIEW finished AS FROM {finished if parts else 'nothing'}"
        )
        connection.execute(
            "CREATE OR REPLACE VIEW requests AS FROM finished UNION ALL BY NAME "
            "FROM pending ANTI JOIN finished USING (prediction_id)"
        )
    except duckdb.Error as error:
        raise _damaged(error) from error


def _empty(schema: pa.Schema) -> pa.Table:
    """Make a table without rows; `empty_table` imports pandas where it is installed: 0.15 s."""
    return pa.Table.from_batches([], schema)


def _predictions(connection: Any, selection: Selection, which: str = "") -> pa.Table:
    names = [row[0] for row in connection.execute("DESCRIBE requests").fetchall()]
    features = [name for name in names if name.startswith(requests.FEATURE)]
    numbers = [_identifier(name) for name in ["confidence", *features]]
    columns = ", ".join(numbers)
    as_floats = ", ".join(f"coalesce({one}::DOUBLE, 'nan'::DOUBLE) AS {one}" for one in numbers)
    try:
        return connection.sql(
            f"""
            WITH known AS (
                SELECT DISTINCT ON (prediction_id) prediction_id, ts_us, prediction, {columns}
                FROM requests WHERE model = $model AND version = $version AND ts_us >= $since
                AND prediction IS NOT NULL AND coalesce(status, 200) < 400
                AND coalesce(request_id, '') <> '{requests.PROBE}' {which}),
            latest AS (FROM known ORDER BY ts_us DESC, prediction_id DESC LIMIT $rows)
            SELECT prediction_id, ts_us, prediction, {as_floats}
            FROM latest ORDER BY ts_us, prediction_id
            """,
            params={
                "model": selection.model,
                "version": selection.version,
                "since": selection.since_us,
                "rows": selection.rows,
            },
        ).to_arrow_table()
    except duckdb.Error as error:
        raise _damaged(error) from error


def _service(connection: Any, selection: Selection) -> Service:
    # A request that failed before a version was chosen has none. The rows of one request count
    # once: their ids are the request's UUID (36 characters) and the row's number behind it.
    row = connection.execute(
        """
        WITH latest AS (
            SELECT left(prediction_id, 36) AS request, status, latency_us, ts_us FROM requests
            WHERE model = $model AND ts_us >= $since
            AND (version = $version OR coalesce(version, 0) <= 0)
            AND coalesce(error, '') <> $draining AND coalesce(request_id, '') <> $probe
            ORDER BY ts_us DESC LIMIT $rows),
        answered AS (SELECT max(status) AS status, max(latency_us) / 1000 AS ms, min(ts_us) AS ts
                     FROM latest GROUP BY request)
        SELECT count(*), count(*) FILTER (status >= 500),
               count(*) FILTER (status >= 400 AND status < 500),
               quantile_cont(ms, [0.5, 0.95, 0.99]), max(ts) - min(ts) FROM answered
        """,
        {
            "model": selection.model,
            "version": selection.version,
            "draining": requests.DRAINING,
            "probe": requests.PROBE,
            "since": selection.since_us,
            "rows": selection.rows,
        },
    ).fetchone()
    total, failed, refused, latencies, span_us = row
    p50, p95, p99 = latencies or (None, None, None)
    return Service(
        requests=total,
        failed=failed,
        refused=refused,
        per_minute=total * 60e6 / span_us if span_us else 0.0,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
    )


def _identifier(name: str) -> str:
    """Write a column's name, which a person may have chosen, as SQL."""
    return '"' + name.replace('"', '""') + '"'


def _window(table: pa.Table, service: Service) -> Window:
    encoded = table["prediction"].combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    numeric = {
        name.removeprefix(requests.FEATURE): _numbers(table[name])
        for name in table.column_names
        if name == "confidence" or name.startswith(requests.FEATURE)
    }
    return Window(
        ids=table["prediction_id"],
        times_us=_numbers(table["ts_us"]),
        numeric=numeric,
        predictions=np.from_dlpack(encoded.indices).astype(np.int64),
        classes=encoded.dictionary.to_pylist(),
        service=service,
    )


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """Give numbers without a missing one as an array; `to_numpy` imports pandas, too."""
    pieces = [np.from_dlpack(one) for one in column.chunks]
    empty = np.empty(0, dtype=column.type.to_pandas_dtype())
    return np.concatenate([empty, *pieces])


def _pending(log: Path) -> pa.Table | None:
    """Read every write-ahead file; None when there is none that can be read."""
    tables = [requests.read_wal(path) for path in sorted((log / requests.WAL).glob("*.arrows"))]
    whole = [table for table in tables if table is not None]
    return pa.concat_tables(whole, promote_options="default") if whole else None


def _feedback(folder: Path) -> pa.Table | None:
    columns = requests.FEEDBACK_SCHEMA.names
    tables = [requests.read_wal(path) for path in sorted(folder.rglob("*.arrows"))]
    tables += [_labels(path) for path in sorted(folder.rglob("[!.]*.parquet"))]
    whole = [table.select(columns) for table in tables if table is not None and table.num_rows]
    return pa.concat_tables(whole) if whole else None


def _labels(path: Path) -> pa.Table | None:
    try:
        return requests.read_part(path)
    except FileNotFoundError:
        return None  # just merged with others; the next look finds it there
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(error, path) from error


def _newest(parts: list[Path], wanted: int) -> list[Path]:
    """Take parts from the end until they hold at least `wanted` rows."""
    rows = 0
    for first in range(len(parts) - 1, -1, -1):
        rows += _rows(parts[first])
        if rows >= wanted:
            return parts[first:]
    return parts


def _rows(part: Path) -> int:
    try:
        return int(pq.read_metadata(part).num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(error, part) from error


def _damaged(error: Exception, path: Path | None = None) -> DataError:
    named = f"`{path}`" if path else "a part of the request log"
    return DataError(
        f"{named} cannot be read: {error}", hint="move the damaged file away and try again"
    )


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
