"""The request log and late labels: what was asked, what was answered, what was true.

`.mlstack/requests/model=NAME/date=YYYY-MM-DD/hour=HH/part-*.parquet`, and
`.mlstack/requests/wal/MODEL-PID-STARTED.arrows` for rows not yet compacted (Arrow IPC streams).
One row a prediction. Columns `f_*` are the monitored input features (float32); of a table, its
columns: numbers as they are, texts as codes (see `records.reference.CategoryColumn`).
Late labels: `.mlstack/feedback/part-*.parquet`.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

from mlstack import parquet

WAL = "wal"
FEATURE = "f_"
PROBE = "mlstack-probe"  # request id of `monitor probe`, whose questions are no traffic
DRAINING = "draining"  # error of what a stopping server did not answer: no failure
BASE_SCHEMA = pa.schema(
    [
        ("prediction_id", pa.string()),
        ("request_id", pa.string()),
        ("ts_us", pa.int64()),  # microseconds since the epoch, UTC
        ("model", pa.string()),
        ("version", pa.int32()),
        ("route", pa.string()),
        ("status", pa.int16()),
        ("error", pa.string()),
        ("latency_us", pa.int64()),
        ("batch", pa.int32()),  # rows of the call that answered it
        ("prediction", pa.string()),
        ("confidence", pa.float32()),
        ("probabilities", pa.list_(pa.float32())),
        ("input", pa.binary()),  # raw bytes as sent; null when serve.log.inputs is false
    ]
)
FEEDBACK_SCHEMA = pa.schema(
    [("prediction_id", pa.string()), ("label", pa.string()), ("ts_us", pa.int64())]
)


def schema(features: list[str]) -> pa.Schema:
    """Give the schema of a log with these monitored features."""
    extra = [pa.field(FEATURE + name, pa.float32()) for name in features]
    return pa.schema([*BASE_SCHEMA, *extra])


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
            empty = stream.schema.empty_table()
    except (pa.ArrowException, OSError):
        return pa.Table.from_batches(batches) if batches else None
    return pa.Table.from_batches(batches) if batches else empty
