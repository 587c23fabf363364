"""The request log and late labels: what was asked, what was answered, what was true.

`.mlstack/requests/model=NAME/date=YYYY-MM-DD/hour=HH/part-*.parquet`, and
`.mlstack/requests/wal/MODEL-PID-STARTED.arrows` for rows not yet compacted (Arrow IPC streams).
One row a prediction. Columns `f_*` are the monitored input features (float32); of a table, its
columns: numbers as they are, texts as codes (see `records.reference.CategoryColumn`).
Late labels: `.mlstack/feedback/part-*.parquet`.
"""

from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.ipc

from mlstack import parquet

WAL = "wal"
FEATURE = "f_"
PROBE = "mlstack-probe"  # request id of `monitor probe`, whose questions are no traffic
DRAINING = "draining"  # error of what a stopping server did not answer: no failure
Kind = Literal["string", "binary", "int16", "int32", "int64", "float32", "list<float32>"]
BASE_COLUMNS: dict[str, Kind] = {
    "prediction_id": "string",
    "request_id": "string",
    "ts_us": "int64",  # microseconds since the epoch, UTC
    "model": "string",
    "version": "int32",
    "route": "string",
    "status": "int16",
    "error": "string",
    "latency_us": "int64",
    "batch": "int32",  # rows of the call that answered it
    "prediction": "string",
    "confidence": "float32",
    "probabilities": "list<float32>",
    "input": "binary",  # raw bytes as sent; null when serve.log.inputs is false
}
TYPES: dict[Kind, pa.DataType] = {
    "string": pa.string(),
    "binary": pa.binary(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "list<float32>": pa.list_(pa.float32()),
}
FEEDBACK_SCHEMA = pa.schema(
    [("prediction_id", pa.string()), ("label", pa.string()), ("ts_us", pa.int64())]
)


def columns(features: list[str]) -> dict[str, Kind]:
    """Give the columns of a log with these monitored features."""
    return BASE_COLUMNS | {FEATURE + name: "float32" for name in features}


def schema(features: list[str]) -> pa.Schema:
    """Give the same as a schema of Arrow."""
    return pa.schema([(name, TYPES[kind]) for name, kind in columns(features).items()])


def partition(model: str, date: str, hour: str) -> Path:
    """Give the folder, below the log, of one hour of one model."""
    return Path(f"model={model}") / f"date={date}" / f"hour={hour}"


def parts(log: Path, model: str) -> list[Path]:
    """List the finished parts of a model's log, oldest first."""
    return sorted((log / f"model={model}").glob("date=*/hour=*/part-*.parquet"))


def feedback_parts(feedback: Path) -> list[Path]:
    """List the parts of late labels, oldest first; of two labels of one id the later one counts."""
    return sorted(feedback.glob("part-*.parquet"))


def read_part(path: Path) -> pa.Table:
    """Read one finished part."""
    return parquet.read(path)


def read_wal(path: Path) -> pa.Table | None:
    """Read what is whole of a write-ahead file; what a crash or a disk cut off is left out."""
    batches: list[pa.RecordBatch] = []
    try:
        with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as stream:
            for batch in stream:  # a cut-off batch ends the loop by an error
                batch.validate(full=True)  # zeros of a power cut would crash whoever reads on
                batches.append(batch)
            schema = stream.schema
    except (pa.ArrowException, OSError):
        return pa.Table.from_batches(batches) if batches else None
    return pa.Table.from_batches(batches, schema)
