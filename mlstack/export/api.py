"""Turn a finished run into a package that has proven itself; open one and have it prove again."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlstack.config import load
from mlstack.errors import GateError, Mistake
from mlstack.export import ask, bundle, gates, packages
from mlstack.export.order import Order, order
from mlstack.export.safety import check_graph
from mlstack.records import base, run
from mlstack.records.base import Record, Result
from mlstack.records.layout import Layout
from mlstack.records.package import MODEL, SIDE, GateResult, Golden


class Stage(Record, frozen=True, kw_only=True, tag="export.stage"):
    """What is being done now."""

    text: str


class Judged(Record, frozen=True, kw_only=True, tag="export.judged"):
    """Every gate, green or red, before anything is packed."""

    gates: list[GateResult]


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

    def headline(self) -> str:
        """Give the package's path."""
        return self.path


def export(
    path: Path, *, sets: tuple[str, ...], wanted: str | None, precision: str, formats: str
) -> Iterator[Record]:
    """Build, measure and judge a run's graph; pack it when every gate is green.

    Raises:
        GateError: a gate is red, or the graph ended the process that measured it.
    """
    asked = order(load(path, sets=sets), wanted, precision, formats)
    layout = Layout(asked.project.root)
    with bundle.workplace(layout.state, asked.model) as work:
        yield Stage(text=f"building the graph of run {asked.spec.id}")
        built = yield from ask.build(asked, work)
        graph, chosen = yield from ask.quantize(asked, work, built)
        yield Stage(text=f"measuring it in {chosen}, without torch")
        figures = yield from ask.measure(asked, graph, chosen, built)
        judged = gates.judge(figures, _standard(asked, chosen))
        yield Judged(gates=judged)
        gates.refuse(judged, model=asked.model)
        parts = bundle.Parts(
            spec=asked.spec,
            model=asked.model,
            graph=graph,
            precision=chosen,
            checkpoint_sha256=asked.checkpoint_sha256,
            built=built,
            figures=figures,
            gates=judged,
            max_batch=asked.project.config.serve.batching.max_size,
        )
        package = bundle.pack(parts, layout.model(asked.model))
    yield Exported(
        model=asked.model,
        number=int(package.name),
        path=package.relative_to(asked.project.root).as_posix(),
        run=asked.spec.id,
        precision=chosen,
        size_bytes=figures.size_bytes,
        metrics=figures.metrics,
        latency_ms=figures.latency_ms,
        gates=judged,
    )


def verify(path: Path, *, sets: tuple[str, ...], wanted: str | None) -> Iterator[Record]:
    """Check a package's files, look into its graph, and replay its golden examples. No torch.

    Raises:
        DataError: it is damaged, cut off, changed, or not safe to open.
        GateError: it answers something else, or ends the process it runs in.
    """
    package = packages.find(path, sets, wanted)
    manifest = packages.check(package)
    check_graph(package / MODEL)
    golden = base.read(package / SIDE / "golden.json", Golden)
    yield Stage(text=f"replaying {len(golden.examples)} golden examples")
    with tempfile.TemporaryDirectory(prefix="mlstack-verify-") as work:
        replayed = yield from ask.replay(package, Path(work))
    if replayed.differing:
        raise GateError(
            f"{len(replayed.differing)} of {replayed.examples} golden examples are answered "
            "differently",
            hint="the runtime or the processor differs from the one that exported it",
            where=str(package),
            mistakes=tuple(Mistake(problem=line) for line in replayed.differing),
        )
    yield Verified(
        model=manifest.model,
        number=manifest.number,
        path=str(package),
        run=manifest.run,
        files=len(manifest.files),
        examples=replayed.examples,
        max_diff=replayed.max_diff,
        tolerance=golden.tolerance,
    )


def _standard(asked: Order, precision: str) -> gates.Standard:
    config = asked.project.config
    return gates.Standard(
        gates=config.gates,
        precision=precision,
        max_diff=config.export.max_diff,
        run_metrics=run.summarise(asked.folder).metrics,
    )
