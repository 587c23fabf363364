"""Every setting of mlstack.yaml, its type, its default and one line about it."""

import enum
import json
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

VERSION = 1

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
DOTTED_CLASS = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
DURATION = r"^(\d+(\.\d+)?[dhms])+$"
ALERT_TARGET = r"^(log|exec:.+|https?://.+)$"
STORE = r"^(local|postgresql://([^:@/]+@)?[^@/]+/[^@]+)$"
SECRET = r"^env:[A-Za-z_][A-Za-z0-9_]*$"

# What a value that does not fit one of the patterns above is not.
PATTERNS = {
    NAME: 'a name of letters, digits, "_", "-" and "."',
    DOTTED_CLASS: 'a class as "package.module:Class"',
    DURATION: 'a time such as "2h30m"',
    ALERT_TARGET: '"log", "exec:COMMAND" or "https://WEBHOOK"',
    STORE: '"local" or "postgresql://USER@HOST/DATABASE" without a password',
    SECRET: 'a variable of the environment as "env:NAME"',
}

Name = Annotated[str, StringConstraints(pattern=NAME)]
DottedClass = Annotated[str, StringConstraints(pattern=DOTTED_CLASS)]
Share = Annotated[float, Field(ge=0, le=1)]
Duration = Annotated[str, StringConstraints(pattern=DURATION)]
Secret = Annotated[str, StringConstraints(pattern=SECRET)]
AlertTarget = Annotated[str, StringConstraints(pattern=ALERT_TARGET)]


class Section(BaseModel):
    """A part of the file: unknown keys are refused, values never change."""

    # Strict: `epochs: "10"` and `seed: true` are mistakes. Deferred: only the whole is compiled,
    # which a config error need not wait for thirty times.
    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, strict=True, defer_build=True
    )


class ProjectSection(Section):
    """What the project is."""

    name: Name = Field(
        description="Name of the project and of its model.", examples=["digits-demo"]
    )
    task: Literal[
        "image-classification", "text-classification", "tabular", "object-detection", "time-series"
    ] = Field(description="What the model does.", examples=["image-classification"])
    seed: int = Field(default=17, ge=0, description="Seed of every random choice.")


class Split(Section):
    """Shares of train, validation and test; they add up to 1."""

    train: Share = Field(default=0.8, description="Share to learn from.")
    val: Share = Field(default=0.1, description="Share to choose the best epoch with.")
    test: Share = Field(default=0.1, description="Share to judge the finished model with.")
    stratify: bool = Field(default=True, description="Keep the class balance in every part.")
    group_by: str | None = Field(
        default=None, description="Column whose equal values stay in the same part."
    )

    @model_validator(mode="after")
    def _adds_up(self) -> "Split":
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + test is {total:g}; it must be 1")
        return self


class Synthetic(Section):
    """Generated examples, only ever added to train."""

    fraction: Share = Field(default=0.0, description="Share of generated examples in train.")


class DataChecks(Section):
    """What the data must satisfy before it is trained on."""

    max_missing: Share = Field(
        default=0.01, description="Largest share of missing values in a column of a table."
    )
    no_duplicates_across_splits: bool = Field(
        default=True, description="Refuse equal files in different parts."
    )
    min_per_class: int = Field(default=2, ge=0, description="Fewest examples of a class.")


class Features(Section):
    """Values from further Parquet files, as they were known at the time of a row."""

    key: str = Field(min_length=1, description="Column that names whom a row is about.")
    time: str = Field(min_length=1, description="Column of the moment; nothing later is looked at.")
    files: list[str] = Field(
        min_length=1, description="Parquet files with both columns, below the folder of the data."
    )
    ttl: Duration | None = Field(default=None, description='What is older is missing, e.g. "30d".')


class Data(Section):
    """Where the data is and how it is read."""

    source: str = Field(
        min_length=1,
        description="Folder under data/ with the files and their labels, or a URL to copy from.",
        examples=["data/digits"],
    )
    table: str | None = Field(
        default=None, min_length=1, description="Table of a postgresql:// source, or SCHEMA.TABLE."
    )
    query: str | None = Field(
        default=None, min_length=1, description="SELECT on a postgresql:// source, instead."
    )
    password: Secret | None = Field(
        default=None, description="Where the password of a postgresql:// source is: env:NAME."
    )
    label: str = Field(
        default="label", min_length=1, description="Column of a table that holds the class."
    )
    module: DottedClass | None = Field(
        default=None, description="Own LightningDataModule as package.module:Class."
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Arguments of data.module.")
    features: Features | None = Field(default=None, description="Joined to the rows of a table.")
    classes: list[str] | None = Field(
        default=None, description="The classes in order; taken from the labels when not given."
    )
    split: Split = Field(default_factory=Split, description="How examples are divided.")
    augment: str = Field(default="none", description="none, basic, strong or package.module:fn.")
    synthetic: Synthetic = Field(default_factory=Synthetic, description="Generated examples.")
    checks: DataChecks = Field(default_factory=DataChecks, description="Checks of the data.")

    @property
    def is_remote(self) -> bool:
        """Whether the source is a URL, whose content is copied before it is used."""
        return "://" in self.source

    @property
    def folder(self) -> str:
        """The folder of the files: the source itself, or what its URL is copied into."""
        if not self.is_remote:
            return self.source
        last = (self.table or self.source.rstrip("/")).rpartition("/")[2]
        name = last if self.table else last.partition("?")[0].removesuffix(".parquet")
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name.removesuffix(".csv")).strip("-")
        return f"data/{plain or 'source'}"

    @model_validator(mode="after")
    def _fits_its_source(self) -> "Data":
        parts = urlsplit(self.source) if self.is_remote else None
        if parts and parts.password:
            raise ValueError("source holds a password; write password: env:NAME instead")
        if parts and parts.scheme == "postgresql":
            if (self.table is None) == (self.query is None):
                raise ValueError("a postgresql:// source needs a table or a query, one of them")
        elif self.table or self.query or self.password:
            raise ValueError("table, query and password are for a postgresql:// source")
        return self


class Label(Section):
    """How people label."""

    queue: Literal["random", "uncertain", "diverse"] = Field(
        default="random", description="Order in which items are offered."
    )
    overlap: Share = Field(default=0.0, description="Share of items that two people label.")
    min_agreement: Share = Field(default=0.8, description="Cohen's kappa that `check` asks for.")


class Versioning(Section):
    """Where data versions are kept."""

    backend: Literal["dvc", "none"] = Field(default="dvc", description="Keeper of versions.")
    layout: Literal["files", "packs", "chunks"] = Field(
        default="files", description="Packs for many small files, chunks for large that change."
    )
    remote: str | None = Field(default=None, description="Folder or URL to push to.")


class Model(Section):
    """The user's own LightningModule."""

    class_: DottedClass = Field(
        alias="class",
        description="LightningModule: package.module:Class.",
        examples=["my_project.model:Net"],
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Arguments of model.class.")


class Train(Section):
    """How a run is trained."""

    gpus: Literal["auto"] | Annotated[int, Field(ge=0)] | list[Annotated[int, Field(ge=0)]] = Field(
        default="auto", description="auto, a number, or a list of GPU indices."
    )
    ranks: int = Field(default=1, ge=1, description="Processes when training without GPUs.")
    epochs: int = Field(default=10, ge=1, description="Passes over train, at most.")
    batch_size: int = Field(default=64, ge=1, description="Examples per step over all ranks.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="Arithmetic; auto is bf16 where the GPU has it."
    )
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        default="auto", description="How several ranks share the work."
    )
    monitor: str = Field(default="val/loss", description="Metric that decides which epoch is best.")
    mode: Literal["min", "max"] = Field(default="min", description="Which direction is better.")
    patience: int | None = Field(
        default=None, ge=1, description="Stop after so many epochs without a better one."
    )
    max_time: Duration | None = Field(default=None, description='Stop after, e.g. "2h30m".')
    trainer_args: dict[str, Any] = Field(
        default_factory=dict, description="Anything else for lightning's Trainer."
    )


class Track(Section):
    """Where runs are recorded."""

    store: Annotated[str, StringConstraints(pattern=STORE)] = Field(
        default="local", description="local, or postgresql://HOST/DATABASE for a list of all."
    )
    password: Secret | None = Field(default=None, description="Its password: env:NAME.")
    mirror: list[Literal["tensorboard", "mlflow", "wandb", "comet"]] = Field(
        default_factory=list, description="Copies for other tools."
    )


def _ascending(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"{low:g} is not below {high:g}")


class Uniform(Section):
    """A number between two bounds."""

    uniform: tuple[float, float] = Field(strict=False, description="Low and high.")

    @model_validator(mode="after")
    def _ascends(self) -> "Uniform":
        _ascending(*self.uniform)
        return self


class LogUniform(Section):
    """A number between two bounds, drawn on a logarithmic scale."""

    log_uniform: tuple[float, float] = Field(
        strict=False, description="Low and high, both above 0."
    )

    @model_validator(mode="after")
    def _ascends(self) -> "LogUniform":
        if self.log_uniform[0] <= 0:
            raise ValueError(f"{self.log_uniform[0]:g} must be above 0 on a logarithmic scale")
        _ascending(*self.log_uniform)
        return self


class IntRange(Section):
    """A whole number between two bounds, both included."""

    int_range: tuple[int, int] = Field(strict=False, description="Low and high.")

    @model_validator(mode="after")
    def _ascends(self) -> "IntRange":
        _ascending(*self.int_range)
        return self


class Choice(Section):
    """One of a list."""

    choice: list[Any] = Field(min_length=1, description="The values to choose from.")


DIMENSIONS: dict[str, type[Section]] = {
    "uniform": Uniform,
    "log_uniform": LogUniform,
    "int_range": IntRange,
    "choice": Choice,
}


def _kind(given: Any) -> str | None:
    """Tell by its key which dimension is meant, so that a mistake is reported once."""
    if isinstance(given, Section):
        return type(given).__name__
    keys = given if isinstance(given, dict) else ()
    return next((DIMENSIONS[key].__name__ for key in keys if key in DIMENSIONS), None)


Dimension = Annotated[
    Annotated[Uniform, Tag("Uniform")]
    | Annotated[LogUniform, Tag("LogUniform")]
    | Annotated[IntRange, Tag("IntRange")]
    | Annotated[Choice, Tag("Choice")],
    Discriminator(_kind),
]


class Tune(Section):
    """How hyper-parameters are searched."""

    trials: int = Field(default=20, ge=1, description="How many settings to try.")
    gpus_per_trial: int = Field(default=1, ge=0, description="GPUs of one trial.")
    sampler: Literal["grid", "random", "tpe", "gp"] = Field(
        default="tpe", description="How the next setting is chosen."
    )
    pruner: Literal["none", "median", "asha", "hyperband", "pbt"] = Field(
        default="median", description="How hopeless trials are ended early."
    )
    space: dict[str, Dimension] = Field(
        default_factory=dict, description="Setting -> where to look for its value."
    )


class ValidationGate(Section):
    """Bounds of one metric."""

    min: float | None = Field(default=None, description="Smallest value that passes.")
    max: float | None = Field(default=None, description="Largest value that passes.")
    max_drop_vs_live: float | None = Field(
        default=None, ge=0, description="How much worse than the live model it may be."
    )


class SliceGate(Section):
    """A floor under a metric for every value of a column."""

    column: str = Field(default="class", description="Column that makes the slices.")
    metric: Literal["acc"] = Field(default="acc", description="What is measured.")
    min: float = Field(description="Smallest value that passes.")


class LatencyGate(Section):
    """How fast a prediction must be."""

    p99_ms: float = Field(gt=0, description="99th percentile in milliseconds.")
    batch: int = Field(default=1, ge=1, description="Rows of one call.")
    device: Literal["cpu", "gpu"] = Field(default="cpu", description="Where it is measured.")


class Gates(Section):
    """What a model must pass before it is packed; a red gate leaves no package."""

    validation: dict[str, ValidationGate] = Field(
        default_factory=dict, description="Metric -> bounds."
    )
    slices: list[SliceGate] = Field(default_factory=list, description="Floors for parts.")
    functionality: str | None = Field(
        default=None, description="File of golden examples (JSON lines)."
    )
    latency: LatencyGate | None = Field(default=None, description="Speed of one call.")


class Format(enum.StrEnum):
    """What a package may hold."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    LITERT = "litert"
    COREML = "coreml"
    EXECUTORCH = "executorch"


class Export(Section):
    """How a run becomes a model package."""

    formats: list[Annotated[Format, Field(strict=False)]] = Field(
        default_factory=lambda: [Format.ONNX], description="Formats; onnx always."
    )
    quantize: Literal["none", "auto", "int8-dynamic", "int8-static", "fp16"] = Field(
        default="none", description="Smaller arithmetic."
    )
    embed_preprocessing: bool = Field(
        default=True, description="Tensor arithmetic of the input inside the graph."
    )
    max_diff: float = Field(
        default=1e-3, gt=0, description="Largest |torch - onnx| relative to the output's scale."
    )


class Batching(Section):
    """How requests share a call of the model."""

    max_size: int = Field(default=64, ge=1, description="Rows of one call, at most.")
    max_delay_ms: float = Field(default=0, ge=0, description="Wait for more rows; 0 never waits.")
    adaptive: bool = Field(default=True, description="Learn the best size from latency.")
    max_queue: int = Field(default=1024, ge=1, description="Rows waiting before 429 is answered.")


class Traffic(Section):
    """Shares of requests in percent."""

    live: float = Field(default=100, ge=0, le=100, description="Answered by the live model.")
    canary: float = Field(default=0, ge=0, le=100, description="Answered by the canary.")
    shadow: float = Field(default=0, ge=0, le=100, description="Copied to the shadow.")


class RequestLog(Section):
    """What is kept of each request."""

    inputs: bool = Field(default=True, description="Keep the inputs, not only the answers.")
    sample: Share = Field(default=1.0, description="Share of requests that are kept.")
    keep_days: int = Field(default=30, ge=1, description="Days before they are deleted.")
    flush_ms: int = Field(default=50, ge=1, description="Most that a crash may lose.")
    redact: list[str] = Field(default_factory=list, description="Columns never written.")


class Serve(Section):
    """How the model is served."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port; 0 takes a free one.")
    device: Literal["auto", "cpu", "gpu"] = Field(default="auto", description="Where it runs.")
    max_body_mb: float = Field(default=16, gt=0, description="Largest request body.")
    batching: Batching = Field(default_factory=Batching, description="Sharing of calls.")
    traffic: Traffic = Field(default_factory=Traffic, description="Shares of requests.")
    log: RequestLog = Field(default_factory=RequestLog, description="What is kept.")


class Drift(Section):
    """Effect sizes that count as drift."""

    input: float = Field(default=0.2, gt=0, description="Distance of an input column.")
    prediction: float = Field(default=0.1, gt=0, description="Distance of predictions.")


class Service(Section):
    """What the service must hold."""

    max_error_rate: Share = Field(default=0.01, description="Share of 5xx answers.")
    p99_ms: float | None = Field(default=None, gt=0, description="99th percentile of latency.")


class Retrain(Section):
    """What happens after an alert."""

    when: Literal["never", "drift", "quality"] = Field(default="never", description="Cause.")
    auto: bool = Field(default=False, description="Start `mlstack run` without asking.")


class Monitor(Section):
    """How the served model is watched."""

    window: int = Field(default=500, ge=1, description="Predictions of one check.")
    min_window: int = Field(default=50, ge=1, description="Fewest predictions to judge by.")
    drift: Drift = Field(default_factory=Drift, description="Effect sizes.")
    service: Service = Field(default_factory=Service, description="Errors and latency.")
    on_alert: list[AlertTarget] = Field(
        default_factory=lambda: ["log"], description="log, exec:COMMAND or https://WEBHOOK."
    )
    retrain: Retrain = Field(default_factory=Retrain, description="After an alert.")


class Config(Section):
    """The whole file."""

    version: Literal[1] = Field(description="Version of this file's format.", examples=[VERSION])
    project: ProjectSection = Field(description="What the project is.")
    data: Data = Field(description="Where the data is and how it is read.")
    label: Label = Field(default_factory=Label, description="How people label.")
    versioning: Versioning = Field(default_factory=Versioning, description="Data versions.")
    model: Model = Field(description="Your LightningModule.")
    train: Train = Field(default_factory=Train, description="How a run is trained.")
    track: Track = Field(default_factory=Track, description="Where runs are recorded.")
    tune: Tune = Field(default_factory=Tune, description="How settings are searched.")
    gates: Gates = Field(default_factory=Gates, description="What a model must pass.")
    export: Export = Field(default_factory=Export, description="How a run becomes a package.")
    serve: Serve = Field(default_factory=Serve, description="How the model is served.")
    monitor: Monitor = Field(default_factory=Monitor, description="How it is watched.")


def json_schema() -> bytes:
    """Give the JSON Schema of the file, for editors."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(schema | Config.model_json_schema(by_alias=True), indent=2).encode() + b"\n"
