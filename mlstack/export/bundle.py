"""Figures and files -> a package folder that appears as a whole."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlstack import __version__, files
from mlstack.errors import MachineError
from mlstack.export import edge, mlflow, sbom, signature
from mlstack.export.card import Shown, card, triton
from mlstack.export.facts import Training
from mlstack.export.handover import GOLDEN, Built, Figures
from mlstack.export.packages import LIVE
from mlstack.records import base
from mlstack.records.lineage import Lineage
from mlstack.records.package import (
    MANIFEST,
    MODEL,
    SIDE,
    GateResult,
    Manifest,
    Metrics,
    Signature,
    numbers,
    read_live,
)
from mlstack.records.run import RunSpec
from mlstack.records.variants import Times, Variants

BUILDING = ".*.tmp-*"


@dataclass(frozen=True)
class Parts:
    """Everything that goes into a package."""

    spec: RunSpec
    model: str
    graph: Path
    precision: str
    checkpoint_sha256: str
    built: Built
    figures: Figures
    gates: list[GateResult]
    max_batch: int
    times: list[Times]
    variants: Variants
    training: Training
    mlflow: bool = False  # write what MLflow reads, too
    key: Path | None = None  # that signs the manifest
    page: str = ""  # HTML
    edges: edge.Edges = dataclass_field(default_factory=edge.Edges)


@contextmanager
def workplace(state: Path, model: str) -> Iterator[Path]:
    """Give an empty folder that is gone afterwards; only one export of a model at a time.

    What a killed export left is removed first.

    Raises:
        BusyError: another process exports the same model.
    """
    home = state / "export" / model
    with files.lock(home / "lock", f"exporting `{model}`"):
        _sweep(home)
        work = home / f"work-{secrets.token_hex(4)}"
        work.mkdir()
        try:
            yield work
        finally:
            _sweep(home)


def _sweep(home: Path) -> None:
    """Remove every workplace; whoever calls holds the lock.

    The worker of a killed export may still be dying in one, so it is tried again when the export
    that follows is over.
    """
    for left in home.glob("work-*"):
        shutil.rmtree(left, ignore_errors=True)


def pack(parts: Parts, model_folder: Path) -> Path:
    """Write the package `models/NAME/N` and give its path.

    It is put together beside its place and moved there when every byte is on the disk.
    """
    model_folder.mkdir(parents=True, exist_ok=True)
    for left in model_folder.glob(BUILDING):
        shutil.rmtree(left)
    number = next_number(model_folder)
    beside = model_folder / f".{number}.tmp-{secrets.token_hex(4)}"
    (beside / SIDE).mkdir(parents=True)
    try:
        _fill(beside, parts, number)
        files.move(beside, model_folder / str(number))
    except OSError as error:
        raise MachineError(
            f"the package cannot be written: {error.strerror}", hint="is the disk full?"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    config = triton(parts.model, parts.built, parts.max_batch)
    files.write_text(model_folder / "config.pbtxt", config)
    return model_folder / str(number)


def next_number(model_folder: Path) -> int:
    """Give the number after all that exist or that `live.json` names; none is used twice."""
    named: list[int | None] = []
    if (model_folder / LIVE).is_file():
        live = read_live(model_folder / LIVE)
        named = [live.live, live.previous, live.canary, live.shadow]
    return max([0, *numbers(model_folder), *(n for n in named if n is not None)]) + 1


def _fill(folder: Path, parts: Parts, number: int) -> None:
    side = folder / SIDE
    built, figures = parts.built, parts.figures
    created = datetime.now(UTC).isoformat(timespec="seconds")
    lineage = _lineage(parts, number, created)
    shutil.copyfile(parts.graph, folder / MODEL)
    shutil.copytree(parts.graph.parent / f"{parts.precision}-{GOLDEN}", side / "golden")
    base.write(side / "signature.json", _signature(parts))
    base.write(side / "parity.json", figures.parity)
    base.write(side / "metrics.json", _metrics(parts))
    base.write(side / "lineage.json", lineage)
    base.write(side / "reference.json", figures.reference)
    base.write(side / "golden.json", figures.golden)
    base.write(side / "variants.json", parts.variants)
    files.write_text(side / "report.html", parts.page)
    edge.copy(parts.edges, side)
    digest = files.sha256(folder / MODEL)
    files.write_bytes(side / "sbom.json", sbom.render(lineage, digest, built.parameters))
    if parts.mlflow:
        files.write_text(folder / "MLmodel", _mlflow(parts))
    files.write_text(folder / "README.md", card(lineage, built, figures, _shown(parts)))
    present = list(files.walk(folder))
    for path in present:
        files.sync_file(path)
    manifest = Manifest(
        model=parts.model,
        number=number,
        run=parts.spec.id,
        created=created,
        mlstack=__version__,
        files={p.relative_to(folder).as_posix(): files.sha256(p) for p in present},
        size_bytes=sum(p.stat().st_size for p in present),
    )
    base.write(side / MANIFEST, manifest)
    if parts.key is not None:
        signature.sign(folder, parts.key)
    for path in [*folder.rglob("*/"), folder]:
        files.sync_folder(path)


def latency(times: list[Times]) -> dict[str, float]:
    """Give the percentiles of calls of one row."""
    single = next(t for t in times if t.batch == 1)
    return {"p50": single.p50_ms, "p99": single.p99_ms}


def _shown(parts: Parts) -> Shown:
    return Shown(
        parts.precision,
        parts.gates,
        parts.variants,
        latency(parts.times),
        parts.training,
        parts.edges.record,
    )


def _mlflow(parts: Parts) -> str:
    environment = parts.spec.environment
    versions = environment.packages | {"python": environment.python}
    return mlflow.render(parts.spec.id, [parts.built.input], parts.built.outputs, versions)


def _lineage(parts: Parts, number: int, created: str) -> Lineage:
    spec = parts.spec
    return Lineage(
        model=parts.model,
        number=number,
        run=spec.id,
        created=created,
        dataset=spec.dataset,
        code=spec.code,
        environment=spec.environment,
        config=spec.config,
        seed=spec.seed,
        checkpoint_sha256=parts.checkpoint_sha256,
        parent=spec.parent,
    )


def _signature(parts: Parts) -> Signature:
    return Signature(
        task=parts.spec.config["project"]["task"],
        inputs=[parts.built.input],
        outputs=parts.built.outputs,
        classes=parts.built.classes,
        preprocess=_preprocess(parts),
    )


def _preprocess(parts: Parts) -> dict[str, Any] | None:
    """Say how raw bytes become the input, and where a row's features are looked up before."""
    data, given = parts.spec.config["data"], parts.built.preprocess
    change = parts.figures.short_diff
    if given is not None and change is not None and change <= parts.figures.golden.tolerance:
        given = given | {"shortens": True}
    if given is None or not data.get("features"):
        return given
    return given | {"features": data["features"] | {"folder": parts.spec.dataset.source}}


def _metrics(parts: Parts) -> Metrics:
    return Metrics(
        values=parts.figures.metrics,
        per_class=parts.figures.per_class,
        gates=parts.gates,
        latency_ms=latency(parts.times),
    )
