"""What the front process and the workers of `export` tell each other."""

from typing import Any

import msgspec

from mlstack.records.base import Record
from mlstack.records.package import Golden, Parity, Tensor
from mlstack.records.reference import Reference
from mlstack.records.worker import WorkerProgress

MODEL_FP32 = "fp32.onnx"
GOLDEN = "golden"


class Stored(Record, frozen=True, kw_only=True, tag="export.array"):
    """An array in a plain file: rows one after the other, C order, native byte order."""

    file: str
    dtype: str
    shape: list[int]


class Part(Record, frozen=True, kw_only=True, tag="export.part"):
    """What the user's data module gave for one part, and the training code's answers to it."""

    inputs: Stored
    targets: Stored
    logits: Stored


class BuildRequest(Record, frozen=True, kw_only=True, tag="export.build"):
    """Build the graph of a run."""

    root: str  # the project, from where its code is imported
    run_folder: str
    checkpoint: str
    model: str
    folder: str  # where everything is written
    calibration: int = 0  # training examples to keep for quantising


class Built(Record, frozen=True, kw_only=True, tag="export.built"):
    """The graph is written, and what it is to be measured against."""

    input: Tensor
    outputs: list[Tensor]
    classes: list[str]
    parameters: int
    val: Part
    test: Part | None = None
    calibration: Stored | None = None
    preprocess: dict[str, Any] | None = None


class QuantizeRequest(Record, frozen=True, kw_only=True, tag="export.quantize"):
    """Make a smaller graph of the one in full precision."""

    folder: str
    precision: str  # fp16, int8, int8-static or int8-dynamic
    built: Built
    target: str  # file name below `folder`


class Quantized(Record, frozen=True, kw_only=True, tag="export.quantized"):
    """The smaller graph is written."""

    precision: str  # what was chosen: fp16, int8-static or int8-dynamic


class Expected(Record, frozen=True, kw_only=True, tag="export.expected"):
    """One line of the file that `gates.functionality` names."""

    file: str
    label: str


class Rival(Record, frozen=True, kw_only=True, tag="export.rival"):
    """The live package, to be measured on the same test examples."""

    number: int
    model: str
    classes: list[str]
    preprocess: dict[str, Any] | None


class MeasureRequest(Record, frozen=True, kw_only=True, tag="export.measure"):
    """Measure a graph without torch."""

    folder: str
    model: str  # file name below `folder`
    baseline: str | None  # the graph it was made from, when it is a smaller one
    built: Built
    run: str
    root: str
    examples: str
    labels: str | None  # table with further columns that make slices
    columns: list[str] = msgspec.field(default_factory=list)
    expected: list[Expected] = msgspec.field(default_factory=list)
    latency_batch: int = 1
    device: str = "cpu"
    live: Rival | None = None
    tolerance: float = 1e-3
    limit_s: int = 3600


class Slice(Record, frozen=True, kw_only=True, tag="export.slice"):
    """Accuracy on the test examples that share a value of a column."""

    column: str
    value: str
    accuracy: float
    examples: int


class Figures(Record, frozen=True, kw_only=True, tag="export.figures"):
    """Everything that was measured on a graph; `gates` judges it."""

    parity: Parity
    probability_diff: float  # 99.9th percentile of |torch - graph|
    accuracy_drop: float  # training code minus graph, on the validation part
    batch_diff: float  # largest difference of an answer between batches, relative
    batch_probability_diff: float
    sum_error: float  # largest |sum of probabilities - 1|
    finite: bool
    metrics: dict[str, float]
    training_metrics: dict[str, float]  # the same metrics, from the training code
    per_class: dict[str, float]
    latency_ms: dict[str, float]
    golden: Golden
    reference: Reference
    size_bytes: int
    same_inputs: float | None = None  # share of the data module's rows found in the raw files
    inputs_detail: str = ""
    baseline_size_bytes: int | None = None
    baseline_latency_ms: dict[str, float] = msgspec.field(default_factory=dict)
    slices: list[Slice] = msgspec.field(default_factory=list)
    missing_columns: list[str] = msgspec.field(default_factory=list)
    wrong: list[str] = msgspec.field(default_factory=list)  # golden examples answered wrongly
    live_metrics: dict[str, float] = msgspec.field(default_factory=dict)
    live_problem: str = ""


class ReplayRequest(Record, frozen=True, kw_only=True, tag="export.replay"):
    """Answer the golden examples of a package again."""

    package: str
    work: str  # folder for what must be written
    limit_s: int = 300


class Replayed(Record, frozen=True, kw_only=True, tag="export.replayed"):
    """How the answers differ from the expected ones."""

    examples: int
    max_diff: float
    differing: list[str]


Said = WorkerProgress | Built | Quantized | Figures | Replayed
