"""What a run answers on examples that it did not learn from: `mlstack train evaluate`.

Below `.mlstack/runs/ID/`: `evaluation.json` is an `Evaluation`; `answers.parquet` has a row for
each example, in the order of the data module: `path`, and for a table `row`, are null when that
order is not the one of `examples.parquet`.
"""

import msgspec
import pyarrow as pa

from mlstack.records.base import Record

FILE = "evaluation.json"
ANSWERS = "answers.parquet"
ANSWERS_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("row", pa.int64()),
        ("label", pa.string()),
        ("prediction", pa.string()),
        ("confidence", pa.float32()),
    ]
)


class ClassFigures(Record, frozen=True, kw_only=True, tag="evaluation.class"):
    """How well one class is recognised."""

    name: str
    examples: int
    precision: float
    recall: float
    f1: float


class SliceFigures(Record, frozen=True, kw_only=True, tag="evaluation.slice"):
    """How well the examples are recognised that share a value of a column."""

    column: str
    value: str
    examples: int
    acc: float


class Evaluation(Record, frozen=True, kw_only=True, tag="run.evaluation"):
    """A run measured on one part of its data, by its own code and best weights."""

    run: str
    part: str  # test; val when the run has no test part
    examples: int
    metrics: dict[str, float]  # acc, loss, f1 (mean of the classes), ece
    classes: list[ClassFigures] = msgspec.field(default_factory=list)
    slices: list[SliceFigures] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)
