"""What the front process and the workers of `export` tell each other."""

from typing import Any

import msgspec

from mlstack.records.base import Record
from mlstack.records.package import MODEL, Golden, Parity, Tensor
from mlstack.records.reference import Reference
from mlstack.records.variants import Times
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
    any_length: bool = False  # of texts: the graph takes fewer tokens, too
    work: dict[str, int] = msgspec.field(default_factory=dict)  # multiplications of a row, by op
    training_times: list[Times] = msgspec.field(default_factory=list)  # of the user's module


class QuantizeRequest(Record, frozen=True, kw_only=True, tag="export.quantize"):
    """Make smaller graphs of the one in full precision, each `KIND.onnx` below `folder`."""

    folder: str
    kinds: list[str]
    built: Built
    limit_s: int = 900


class Quantized(Record, frozen=True, kw_only=True, tag="export.quantized"):
    """A smaller graph is written, or cannot be made."""

    precision: str
    problem: str = ""


class ConvertRequest(Record, frozen=True, kw_only=True, tag="export.convert"):
    """Make another format of graphs, below `folder`."""

    folder: str
    graphs: dict[str, str]  # precision -> ONNX
    build: BuildRequest  # what the graphs were built by, for a converter that begins with torch
    built: Built
    python: str = ""  # of the converter, where that lives in an environment of its own
    limit_s: int = 900


class Converted(Record, frozen=True, kw_only=True, tag="export.converted"):
    """A graph in another format is written, or cannot be made."""

    precision: str
    files: list[str]  # below the folder; the first one is opened
    problem: str = ""


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
    examples: str | None = None  # of the run that it was made of, where it is still here
    same_split: bool = False  # same data, seed and shares: it never saw the test part
    problem: str = ""  # it does not run, so nothing may open it


class MeasureRequest(Record, frozen=True, kw_only=True, tag="export.measure"):
    """Measure a graph without torch."""

    folder: str
    model: str  # file name below `folder`
    precision: str
    baseline: Stored | None  # what the graph in full precision answered to the raw rows
    built: Built
    run: str
    root: str
    examples: str
    labels: str | None  # table with further columns that make slices
    columns: list[str] = msgspec.field(default_factory=list)
    expected: list[Expected] = msgspec.field(default_factory=list)
    live: Rival | None = None
    tolerance: float = 1e-3
    limit_s: int = 3600


class Slice(Record, frozen=True, kw_only=True, tag="export.slice"):
    """Accuracy on the test examples that share a value of a column."""

    column: str
    value: str
    accuracy: float
    examples: int


class Pair(Record, frozen=True, kw_only=True, tag="export.pair"):
    """The same examples answered by two graphs: how many only one of them gets right."""

    column: str  # empty for all examples, `class`, or a column of the labels
    value: str
    examples: int
    lost: int  # right before, wrong now
    gained: int  # wrong before, right now


class Changed(Record, frozen=True, kw_only=True, tag="export.changed"):
    """A row that a smaller graph answers otherwise than the one in full precision."""

    path: str  # of the raw file; empty for a row of a table or a tensor
    row: dict[str, Any] | None
    label: str
    before: str
    after: str
    before_probability: float  # of the class `before`, in full precision
    after_probability: float  # of the class `after`, in the smaller graph
    diff: float  # largest change of a probability

    @property
    def is_flipped(self) -> bool:
        """Tell whether the class is another one."""
        return self.before != self.after


class Figures(Record, frozen=True, kw_only=True, tag="export.figures"):
    """Everything that was measured on a graph but its speed; `gates` judges it."""

    parity: Parity
    probability_diff: float  # 99.9th percentile of |torch - graph|
    max_probability_diff: float
    accuracy_drop: float  # training code minus graph, on the validation part
    batch_diff: float  # largest difference of an answer between batches, relative
    batch_probability_diff: float
    sum_error: float  # largest |sum of probabilities - 1|
    finite: bool
    deterministic: bool  # the same batch twice, the same bits
    metrics: dict[str, float]
    training_metrics: dict[str, float]  # the same metrics, from the training code
    per_class: dict[str, float]
    golden: Golden
    reference: Reference
    size_bytes: int
    answers: Stored  # probabilities of the raw rows, validation part first
    short_diff: float | None = None  # largest change of a probability in shortened texts
    same_inputs: float | None = None  # share of the data module's rows found in the raw files
    inputs_detail: str = ""
    slices: list[Slice] = msgspec.field(default_factory=list)
    missing_columns: list[str] = msgspec.field(default_factory=list)
    pairs: list[Pair] = msgspec.field(default_factory=list)  # against full precision
    changed: list[Changed] = msgspec.field(default_factory=list)
    loss_change: tuple[float, float] | None = None  # 95 % interval of its mean, by bootstrap
    wrong: list[str] = msgspec.field(default_factory=list)  # golden examples answered wrongly
    live_metrics: dict[str, float] = msgspec.field(default_factory=dict)
    rival_metrics: dict[str, float] = msgspec.field(default_factory=dict)  # on the same rows
    live_pair: Pair | None = None
    live_problem: str = ""


class RaceRequest(Record, frozen=True, kw_only=True, tag="export.race"):
    """Time graphs that have been measured, in turns in one process."""

    folder: str
    models: list[str]  # file names below `folder`
    inputs: Stored
    batches: list[int]
    device: str = "cpu"
    limit_s: int = 900


class Lap(Record, frozen=True, kw_only=True, tag="export.lap"):
    """How fast one graph answers."""

    model: str
    times: list[Times]
    runtime: str = ""


class Raced(Record, frozen=True, kw_only=True, tag="export.raced"):
    """How fast each graph answers, and where that was measured."""

    laps: list[Lap]
    runtime: str
    threads: int
    processor: str


class ReplayRequest(Record, frozen=True, kw_only=True, tag="export.replay"):
    """Answer the golden examples of a package again."""

    package: str
    work: str  # folder for what must be written
    model: str = MODEL  # below the package
    golden: Golden | None = None  # what that must answer; null for that of model.onnx
    limit_s: int = 300


class Replayed(Record, frozen=True, kw_only=True, tag="export.replayed"):
    """How the answers differ from the expected ones."""

    examples: int
    max_diff: float
    differing: list[str]


Said = WorkerProgress | Built | Quantized | Converted | Figures | Raced | Replayed
