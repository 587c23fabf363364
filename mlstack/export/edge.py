"""The formats beside ONNX: converted, run, and measured like any variant; never served."""

import shutil
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlstack.errors import GateError, Mistake
from mlstack.export import ask, choice, trial
from mlstack.export.formats import FORMATS
from mlstack.export.handover import Built, Converted
from mlstack.export.order import Order
from mlstack.export.trial import Field, Stage, Tried
from mlstack.records import base
from mlstack.records.base import Record
from mlstack.records.edge import EDGE, Edge, EdgeModel
from mlstack.records.package import SIDE, Golden


@dataclass(frozen=True)
class Source:
    """What the formats are made of, and measured against."""

    asked: Order
    work: Path
    built: Built
    field: Field
    best: Tried


@dataclass(frozen=True)
class Made:
    """One format of one graph, and what it showed."""

    format: str
    folder: Path
    files: list[str]  # below `folder`; the first one is opened
    tried: Tried
    runtime: str = ""

    @property
    def name(self) -> str:
        """Name it for a person."""
        return f"{self.format} {self.tried.precision}"

    @property
    def opened(self) -> str:
        """Name what a runtime opens, below the folder of all formats; empty without a file."""
        return f"{self.format}/{self.files[0]}" if self.files else ""

    @property
    def red(self) -> list[str]:
        """Say what speaks against it."""
        if self.tried.problem:
            return [self.tried.problem]
        red = [gate for gate in self.tried.gates if not gate.passed]
        return [f"{gate.name} is red: {gate.detail or gate.measured}" for gate in red]


@dataclass(frozen=True)
class Edges:
    """All that were asked for."""

    made: list[Made] = field(default_factory=list)
    record: Edge = field(default_factory=lambda: Edge(models=[]))  # what the package says of them


def everything(source: Source) -> Generator[Record, None, Edges]:
    """Convert, run and time each format that was asked for; nothing when none was."""
    made: list[Made] = []
    for name in source.asked.formats:
        yield Stage(text=f"converting it to {name}")
        made += yield from _format(name, source)
    return (yield from _timed(made, source)) if made else Edges()


def refuse_red(edges: Edges, *, model: str) -> None:
    """Raise when a format was asked for and is not as good as the graph.

    Raises:
        GateError: it could not be made, does not run, or a gate is red.
    """
    red = [one for one in edges.made if one.red]
    if red:
        raise GateError(
            f"{', '.join(one.name for one in red)} did not pass; no package of `{model}` was "
            "written",
            hint="leave the format out: `--format onnx`, or export.formats",
            mistakes=tuple(
                Mistake(problem=problem, key=one.name) for one in red for problem in one.red
            ),
        )


def copy(edges: Edges, side: Path) -> None:
    """Write the files of all formats, and what was measured, below `side` of a package."""
    for one in edges.made:
        for name in one.files:
            target = side / EDGE / one.format / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(one.folder / name, target)
    if edges.made:
        base.write(side / f"{EDGE}.json", edges.record)


def _format(name: str, source: Source) -> Generator[Record, None, list[Made]]:
    graphs = {"fp32": source.field.baseline.graph}
    if FORMATS[name].takes_int8 and source.best.precision.startswith("int8-static"):
        graphs[source.best.precision] = source.best.graph
    folder = source.work / name
    folder.mkdir()
    paths = {precision: path for precision, path in graphs.items() if path is not None}
    converted = yield from ask.convert(
        source.asked, folder, source.built, ask.Wanted(FORMATS[name].worker, paths)
    )
    found = []
    for one in converted:
        made = Made(name, folder, one.files, _begun(one, folder))
        is_measured = not (one.problem or FORMATS[name].unverified)
        found.append((yield from _measured(made, source)) if is_measured else made)
    return found


def _begun(converted: Converted, folder: Path) -> Tried:
    if converted.problem:
        return Tried(converted.precision, problem=f"it cannot be made: {converted.problem}")
    return Tried(converted.precision, graph=folder / converted.files[0])


def _measured(made: Made, source: Source) -> Generator[Record, None, Made]:
    """Run a format on what every variant is run on; one that cannot is red, and says why."""
    yield Stage(text=f"measuring it as {made.name}")
    baseline = source.field.baseline.figures
    try:
        tried = yield from trial.measured(source.asked, source.built, made.tried, baseline)
    except GateError as error:
        reasons = "; ".join(m.problem for m in error.mistakes) or error.problem
        tried = replace(made.tried, problem=reasons)
    return replace(made, tried=tried)


def _timed(made: list[Made], source: Source) -> Generator[Record, None, Edges]:
    """Time those that ran, in turns with the graph in full precision and the packed one."""
    graphs = [source.field.baseline, source.best]
    onnx = {one.graph.name: one.precision for one in graphs if one.graph is not None}
    names = [one.opened for one in made if one.tried.figures]
    raced = yield from ask.race(
        source.asked, source.work, [*onnx, *names], source.built, device="cpu"
    )
    laps = {lap.model: lap for lap in raced.laps}
    found = []
    for one in made:
        lap = laps.get(one.opened)
        if lap is not None:
            one = replace(one, tried=replace(one.tried, times=lap.times), runtime=lap.runtime)
        found.append(one)
    times = {precision: laps[name].times for name, precision in onnx.items()}
    baseline = source.field.baseline.figures
    assert baseline is not None
    models = [_model(one, baseline.golden) for one in found]
    return Edges(found, Edge(models=models, onnx=times))


def _model(one: Made, golden: Golden) -> EdgeModel:
    """Describe one format; what never ran here must answer what the graph in FP32 did."""
    figures = one.tried.figures
    whole = next((p for p in figures.pairs if not p.column), None) if figures else None
    return EdgeModel(
        format=one.format,
        precision=one.tried.precision,
        files=[f"{SIDE}/{EDGE}/{one.format}/{name}" for name in one.files],
        size_bytes=sum((one.folder / name).stat().st_size for name in one.files),
        verified=bool(figures) and not one.red,
        why="; ".join(one.red) or FORMATS[one.format].unverified,
        runtime=one.runtime,
        measured=choice.variant(one.tried) if figures else None,
        golden=figures.golden if figures else golden,
        examples=whole.examples if whole else 0,
        lost=whole.lost if whole else 0,
        gained=whole.gained if whole else 0,
    )
