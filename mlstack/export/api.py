"""Turn a finished run into a package that has proven itself; open one and have it prove again."""

import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from mlstack import files
from mlstack.config import load
from mlstack.errors import GateError, Mistake
from mlstack.export import ask, bundle, choice, edge, facts, packages, report, signature, trial
from mlstack.export.handover import Built, Replayed
from mlstack.export.order import Order, Wish, check_runs, order
from mlstack.export.trial import Stage
from mlstack.records import base, proven, trusted
from mlstack.records.base import Record, Result
from mlstack.records.edge import EdgeModel
from mlstack.records.graph_safety import check_graph
from mlstack.records.layout import Layout
from mlstack.records.package import MANIFEST, MODEL, SIDE, GateResult, Manifest
from mlstack.records.variants import Variant, Variants

__all__ = ["Doubt", "Exported", "Verified", "Weighed", "Wish", "export", "verify"]
REPORT = "export.html"  # in the run's folder


class Weighed(Record, frozen=True, kw_only=True, tag="export.weighed"):
    """Every variant that was tried, before anything is packed."""

    variants: list[Variant]
    gates: list[GateResult]  # of the one that is packed, or that the refusal names


class Exported(Result, frozen=True, kw_only=True, tag="export.package"):
    """A package is in its place."""

    model: str
    number: int
    path: str  # relative to the project
    run: str
    precision: str
    size_bytes: int
    metrics: dict[str, float]
    latency_ms: dict[str, float]
    gates: list[GateResult]
    variants: list[Variant]
    edge: list[EdgeModel]  # the same model in other formats
    page: str  # HTML, relative to the project
    content_sha256: str  # of what answers: equal for two exports of the same checkpoint
    live: int | None = None  # the package that is live meanwhile
    notes: list[str] = msgspec.field(default_factory=list)

    def headline(self) -> str:
        """Give the package's path."""
        return self.path


class Verified(Result, frozen=True, kw_only=True, tag="export.verified"):
    """A package is whole, safe to open, and answers as it did when it was written."""

    model: str
    number: int
    path: str
    run: str
    files: int
    examples: int
    max_diff: float
    tolerance: float
    signed_by: str = ""  # fingerprint of the key that was asked for
    formats: list[str] = msgspec.field(default_factory=list)  # others that were replayed, too
    content_sha256: str = ""  # of what answers: equal for two exports of the same checkpoint

    def headline(self) -> str:
        """Give the package's path."""
        return self.path


@dataclass(frozen=True)
class Doubt:
    """What `verify` is to prove beside the package itself."""

    key: Path | None = None  # whose owner must have signed the manifest
    formats: str = ""  # others to replay, with commas

    @property
    def format_names(self) -> list[str]:
        """Name each format but ONNX, which is replayed anyway."""
        names = [name.strip() for name in self.formats.split(",")]
        return [name for name in names if name not in ("", "onnx")]


def export(path: Path, *, sets: tuple[str, ...], wish: Wish) -> Iterator[Record]:
    """Build a run's graph, try its variants, judge them; pack the best when its gates are green.

    Raises:
        GateError: a gate is red, the graph ended the process that measured it, or nothing is
            inside the budget.
    """
    asked = order(load(path, sets=sets), wish)
    yield from (Stage(text=f"note: {note}") for note in asked.notes)
    layout = Layout(asked.project.root)
    with bundle.workplace(layout.state, asked.model) as work:
        asked = replace(asked, live=(yield from ask.rival(asked, work)))
        yield Stage(text=f"building the graph of run {asked.spec.id}")
        built = yield from ask.build(asked, work)
        field = yield from trial.everything(asked, work, built)
        weighed = choice.table(field, asked, built)
        _write_page(asked, field, weighed, edge.Edges())
        shown = choice.named(field, weighed, asked)
        yield Weighed(variants=weighed.variants, gates=shown.gates)
        best = choice.chosen(field, weighed, asked)
        edges = yield from edge.everything(edge.Source(asked, work, built, field, best))
        page = _write_page(asked, field, weighed, edges)
        edge.refuse_red(edges, model=asked.model)
        parts = replace(_parts(asked, built, best, weighed), edges=edges, page=page)
        package = bundle.pack(parts, layout.model(asked.model))
        proven.keep(layout.proven, package)
    yield _exported(asked, parts, package)


def _write_page(asked: Order, field: trial.Field, weighed: Variants, edges: edge.Edges) -> str:
    page = report.render(asked.spec, asked.model, report.Seen(field, weighed, edges))
    files.write_text(asked.folder / REPORT, page)
    return page


def _parts(asked: Order, built: Built, best: trial.Tried, weighed: Variants) -> bundle.Parts:
    assert best.graph is not None
    assert best.figures is not None
    return bundle.Parts(
        spec=asked.spec,
        model=asked.model,
        graph=best.graph,
        precision=best.precision,
        checkpoint_sha256=asked.checkpoint_sha256,
        built=built,
        figures=best.figures,
        gates=best.gates,
        max_batch=asked.project.config.serve.batching.max_size,
        times=best.times,
        variants=weighed,
        training=facts.training(asked.folder),
        mlflow=asked.mlflow,
        key=asked.key,
    )


def _exported(asked: Order, parts: bundle.Parts, package: Path) -> Exported:
    manifest = base.read(package / SIDE / MANIFEST, Manifest)
    return Exported(
        model=asked.model,
        number=int(package.name),
        path=package.relative_to(asked.project.root).as_posix(),
        run=asked.spec.id,
        precision=parts.precision,
        size_bytes=parts.figures.size_bytes,
        metrics=parts.figures.metrics,
        latency_ms=bundle.latency(parts.times),
        gates=parts.gates,
        variants=parts.variants.variants,
        edge=parts.edges.record.models,
        page=(asked.folder / REPORT).relative_to(asked.project.root).as_posix(),
        content_sha256=manifest.content_sha256,
        live=asked.live.number if asked.live else None,
        notes=list(asked.notes),
    )


def verify(
    path: Path, *, sets: tuple[str, ...], wanted: str | None, doubt: Doubt | None = None
) -> Iterator[Record]:
    """Check a package's files, look into its graph, and replay its golden examples. No torch.

    Args:
        path: mlstack.yaml, for a package that is named by model and number.
        sets: what `--set` gave.
        wanted: a folder, or NAME/N; None for the newest.
        doubt: what else is asked for.

    Raises:
        DataError: it is damaged, cut off, changed, not signed by the key, or not safe to open.
        GateError: it answers something else, or ends the process it runs in.
    """
    package = packages.find(path, sets, wanted)
    manifest = trusted.check(package)
    doubt = doubt or Doubt()
    signed_by = signature.check(package, doubt.key) if doubt.key is not None else ""
    check_graph(package / MODEL)
    golden = trusted.golden(package)
    yield Stage(text=f"replaying {len(golden.examples)} golden examples")
    with tempfile.TemporaryDirectory(prefix="mlstack-verify-") as work:
        replayed = yield from ask.replay(package, Path(work))
    _refuse_differing(replayed, package, "")
    if path.is_file():
        proven.keep(Layout(path.parent).proven, package)
    formats = yield from _other_formats(package, doubt.format_names)
    yield Verified(
        model=manifest.model,
        number=manifest.number,
        path=str(package),
        run=manifest.run,
        files=len(manifest.files),
        examples=replayed.examples,
        max_diff=replayed.max_diff,
        tolerance=golden.tolerance,
        signed_by=signed_by,
        formats=formats,
        content_sha256=manifest.content_sha256,
    )


def _other_formats(package: Path, names: list[str]) -> Generator[Record, None, list[str]]:
    """Replay the golden examples in other formats, each in a process of its own."""
    done = []
    for name in names:
        check_runs(name)
        for one in packages.edge(package, name):
            yield Stage(text=f"replaying them in {name} {one.precision}")
            with tempfile.TemporaryDirectory(prefix="mlstack-verify-") as work:
                replayed = yield from ask.replay(package, Path(work), one)
            _refuse_differing(replayed, package, f" in {name} {one.precision}")
            done.append(f"{name} {one.precision}")
    return done


def _refuse_differing(replayed: Replayed, package: Path, where: str) -> None:
    if replayed.differing:
        raise GateError(
            f"{len(replayed.differing)} of {replayed.examples} golden examples are answered "
            f"differently{where}",
            hint="the runtime or the processor differs from the one that exported it",
            where=str(package),
            mistakes=tuple(Mistake(problem=line) for line in replayed.differing),
        )
