"""Every setting of mlstack.yaml, its type, its default and one line about it.

The sections of the data stand in `data_sections.py`, those of the model in `train_sections.py`,
some of the server in `serve_sections.py`.
"""

import enum
import json
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mlstack.config.data_sections import Data, Label, Versioning
from mlstack.config.kinds import AlertTarget, Day, Endpoint, Name, Section, Share
from mlstack.config.serve_sections import Rollback, Tls
from mlstack.config.train_sections import Model, Track, Train, Tune

VERSION = 1
MOST_SEED = 2**32 - 1  # that numpy takes


class ProjectSection(Section):
    """What the project is."""

    name: Name = Field(
        description="Name of the project and of its model.", examples=["digits-demo"]
    )
    task: Literal[
        "image-classification", "text-classification", "tabular", "object-detection", "time-series"
    ] = Field(description="What the model does.", examples=["image-classification"])
    seed: int = Field(default=17, ge=0, le=MOST_SEED, description="Seed of every random choice.")


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
    live: Literal["paired", "off"] = Field(
        default="paired", description="A paired test against the live package, on the test part."
    )


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
        default="none", description="Smaller arithmetic; auto takes the fastest that is as good."
    )
    target: Literal["cpu", "arm", "gpu", "tensorrt"] = Field(
        default="cpu", description="Where the package runs: which smaller arithmetic suits."
    )
    budget: str = Field(
        default="", description="What a package may cost: size<5MB,p50<10ms,drop<0.5pt."
    )
    embed_preprocessing: bool = Field(
        default=True, description="Tensor arithmetic of the input inside the graph."
    )
    max_diff: float = Field(
        default=1e-4, gt=0, description="Largest |torch - onnx| relative to the output's scale."
    )
    litert_python: str | None = Field(
        default=None,
        description="Python of LiteRT's converter; null is .mlstack/litert/bin/python.",
    )


class Batching(Section):
    """How requests share a call of the model."""

    max_size: int = Field(default=64, ge=1, description="Rows of one call, at most.")
    max_delay_ms: float = Field(default=0, ge=0, description="Wait for more rows; 0 never waits.")
    adaptive: bool = Field(default=True, description="Learn the best size from latency.")
    max_queue: int = Field(default=1024, ge=1, description="Rows waiting before 429 is answered.")
    deadline_ms: float = Field(
        default=5000, ge=0, description="Time for an answer; what cannot keep it gets 429 or 504."
    )


class Traffic(Section):
    """Shares of requests in percent."""

    live: float = Field(default=100, ge=0, le=100, description="Answered by the live model.")
    canary: float = Field(default=0, ge=0, le=100, description="Answered by the canary.")
    shadow: float = Field(default=0, ge=0, le=100, description="Copied to the shadow.")
    rollback: Rollback = Field(default_factory=Rollback, description="When a canary has failed.")


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
    grpc_port: int | None = Field(
        default=None, ge=0, le=65535, description="V2 over gRPC, too; needs mlstack[grpc]."
    )
    device: Literal["auto", "cpu", "gpu"] = Field(default="auto", description="Where it runs.")
    gpus: int = Field(default=1, ge=1, description="GPUs that share the requests.")
    tensorrt: bool = Field(
        default=False, description="TensorRT before CUDA on GPUs; engines are built once and kept."
    )
    max_body_mb: float = Field(default=16, gt=0, description="Largest request body.")
    model_control: Literal["none", "explicit"] = Field(
        default="none", description="May requests load and unload the model (V2 repository)?"
    )
    batching: Batching = Field(default_factory=Batching, description="Sharing of calls.")
    traffic: Traffic = Field(default_factory=Traffic, description="Shares of requests.")
    log: RequestLog = Field(default_factory=RequestLog, description="What is kept.")
    keys_file: str | None = Field(
        default=None, description="Hashes of the API keys [.mlstack/keys.json]."
    )
    public: list[Literal["health", "metrics", "openapi"]] = Field(
        default=["health"], description="Answered without a key."
    )
    cors_origins: list[str] = Field(
        default_factory=list, description='Web pages that may call, as "https://host"; "*" is all.'
    )
    tls: Tls | None = Field(default=None, description="HTTPS by the server itself.")
    log_format: Literal["text", "json"] = Field(
        default="text", description="What the server says on stderr."
    )
    access_log: bool = Field(default=False, description="A JSON line on stderr for each request.")
    otlp_endpoint: Endpoint | None = Field(
        default=None,
        description='Where spans are sent, e.g. "http://localhost:4318"; needs mlstack[otel].',
    )


class Drift(Section):
    """Effect sizes that count as drift."""

    input: float = Field(default=0.2, gt=0, description="Distance of an input column.")
    prediction: float = Field(default=0.1, gt=0, description="Distance of predictions.")
    gradual: float = Field(
        default=0.02,
        gt=0,
        le=1,
        description="Distance from calm days that counts when it lasts; 1 looks at no days.",
    )
    since: Day | None = Field(
        default=None,
        description="First day looked at (2026-02-20), after a change that is as it should be.",
    )


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
        default_factory=lambda: ["log"],
        description="exec:COMMAND (gets it on stdin), https://WEBHOOK, env:NAME of a variable that "
        "holds one, or log (its file alone).",
    )
    retrain: Retrain = Field(default_factory=Retrain, description="After an alert.")

    @model_validator(mode="after")
    def _can_judge(self) -> "Monitor":
        if self.min_window > self.window:
            raise ValueError(
                f"min_window ({self.min_window}) is above window ({self.window}): "
                "no check would ever have enough predictions"
            )
        return self


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
