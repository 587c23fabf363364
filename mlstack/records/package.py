"""The model package: what `export` leaves and `serve` opens.

`models/NAME/N/model.onnx` and, below `mlstack/`: manifest.json, signature.json, metrics.json,
parity.json, lineage.json, reference.json, golden.json and golden/; beside them README.md.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from mlstack import files, shell
from mlstack.errors import DataError
from mlstack.records.base import Record, read
from mlstack.records.layout import Layout

MODEL = "model.onnx"
SIDE = "mlstack"
MANIFEST = "manifest.json"
FILE_LIVE = "live.json"  # beside the packages of a model
# The files below `SIDE` that make a package answer as it does.
ANSWERING = ("signature.json", "golden.json", "golden/", "parity.json", "reference.json")
SEAL = "manifest.json.sig"  # its signature, of a package that was signed


class Tensor(Record, frozen=True, kw_only=True, tag="tensor"):
    """An input or output of the graph; -1 in `shape` is any size, the first is the batch."""

    name: str
    datatype: str  # as in the Open Inference Protocol: UINT8, FP32, INT64 ...
    shape: list[int]


class Signature(Record, frozen=True, kw_only=True, tag="package.signature"):
    """What goes in and what comes out, and how raw bytes become the input tensor."""

    task: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    classes: list[str]
    # how raw bytes become the input: `ImageSpec` or `TableSpec` of inputs/; null takes tensors only
    preprocess: dict[str, Any] | None = None


class GateResult(Record, frozen=True, kw_only=True, tag="gate.result"):
    """One gate of `export`."""

    name: str
    passed: bool
    measured: float | None = None
    limit: float | None = None
    detail: str = ""


class Parity(Record, frozen=True, kw_only=True, tag="package.parity"):
    """How far the graph is from the training code, on the whole validation part."""

    examples: int
    batch_sizes: list[int]
    max_abs_diff: float
    output_scale: float
    max_relative_diff: float
    agreement: float  # share of equal predicted classes


class Metrics(Record, frozen=True, kw_only=True, tag="package.metrics"):
    """Measured on the packed graph itself; per class where the task has classes."""

    values: dict[str, float]  # e.g. test/acc
    per_class: dict[str, float] = msgspec.field(default_factory=dict)
    gates: list[GateResult] = msgspec.field(default_factory=list)
    latency_ms: dict[str, float] = msgspec.field(default_factory=dict)  # p50, p99


class GoldenExample(Record, frozen=True, kw_only=True, tag="golden.example"):
    """A raw input and what the package must answer."""

    file: str  # below mlstack/golden/
    label: str | None
    prediction: str
    probabilities: list[float]


class Golden(Record, frozen=True, kw_only=True, tag="package.golden"):
    """Examples that are replayed at start and by `export verify`."""

    tolerance: float
    examples: list[GoldenExample]


class Manifest(Record, frozen=True, kw_only=True, tag="package.manifest"):
    """SHA-256 of every other file of the package."""

    model: str
    number: int
    run: str
    created: str
    mlstack: str  # version that wrote it
    files: dict[str, str]  # path below the package -> SHA-256
    size_bytes: int = 0

    @property
    def content_sha256(self) -> str:
        """Identify what answers: equal for two exports of the same checkpoint.

        Over the graph, how bytes become its input, what it must answer and what its traffic is held
        against; not over when it was made, its number, and how fast it was that day.
        """
        lines = [f"{self.files[name]}  {name}\n" for name in sorted(self.files) if _answers(name)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def _answers(name: str) -> bool:
    return name == MODEL or name.removeprefix(f"{SIDE}/").startswith(ANSWERING)


Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]


class Live(Record, frozen=True, kw_only=True, tag="model.live"):
    """`models/NAME/live.json`: which package answers. Replaced atomically."""

    live: int | None = None
    previous: int | None = None
    canary: int | None = None
    canary_percent: Percent = 0.0
    shadow: int | None = None  # is asked too, and never answers
    shadow_percent: Percent = 0.0
    changed: str = ""  # UTC, ISO 8601
    note: str = ""  # why, when it was changed by itself


def read_live(path: Path) -> Live:
    """Read what is live.

    Raises:
        DataError: the file is damaged; what to type is said.
    """
    try:
        return read(path, Live)
    except DataError as error:
        raise DataError(
            error.problem, hint=f"remove it, then type `mlstack serve promote NUMBER`: {error.hint}"
        ) from error


def live_package(model: Path, number: int) -> Path:
    """Give the package that `live.json` names.

    Raises:
        DataError: it is not there, or another package lies there; what to type is said.
    """
    have = numbers(model)
    if number not in have:
        hint = f"type `mlstack serve promote {have[-1]}`" if have else "type `mlstack export`"
        raise DataError(
            f"`{model / FILE_LIVE}` names package {number}, which is not there", hint=hint
        )
    refuse_strange(model / str(number))
    return model / str(number)


def refuse_strange(package: Path) -> None:
    """Refuse `models/NAME/N` that holds another package, as copied there by hand.

    Its answers would be logged as those of package N, and be traced to the wrong run. A model that
    was renamed keeps its packages: their runs are here.

    Raises:
        DataError: it is another one; which, and how it can be served, is said.
    """
    try:
        manifest = read(package / SIDE / MANIFEST, Manifest)
    except DataError:
        return  # whoever opens the package says what is wrong with it
    runs = Layout(package.absolute().parents[2]).runs
    is_ours = manifest.model == package.absolute().parent.name or (runs / manifest.run).is_dir()
    if not is_ours or str(manifest.number) != package.name:
        raise DataError(
            f"`{package}` holds package {manifest.number} of `{manifest.model}`, copied there",
            hint=f"`mlstack serve --model {shell.path(package)}` serves it, or take it away",
        )


def verify_files(package: Path) -> Manifest:
    """Compare every file of a package with its manifest.

    Raises:
        DataError: a file is missing, changed, or not named by the manifest.
    """
    manifest = read(package / SIDE / MANIFEST, Manifest)
    present = {p.relative_to(package).as_posix() for p in files.walk(package)}
    present -= {f"{SIDE}/{MANIFEST}", f"{SIDE}/{SEAL}"}
    for name in sorted(manifest.files.keys() | present):
        if name not in present:  # or it lies elsewhere: `../name`
            problem = "is missing from the package"
        else:
            problem = _problem(package / name, manifest.files.get(name))
        if problem:
            raise DataError(f"`{name}` {problem}", hint="export the run again", where=str(package))
    return manifest


def numbers(model_folder: Path) -> list[int]:
    """List the package numbers of a model, in order."""
    if not model_folder.is_dir():
        return []
    return sorted(int(p.name) for p in model_folder.iterdir() if p.name.isdecimal() and p.is_dir())


def _problem(path: Path, expected: str | None) -> str:
    if expected is None:
        return "is not named by the package's manifest"
    if files.sha256(path) != expected:
        return "differs from the package's manifest"
    return ""
