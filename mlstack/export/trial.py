"""Try every graph that suits a run: make it, measure it, time it, hold it against the gates."""

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlstack.errors import GateError
from mlstack.export import ask, gates, kinds
from mlstack.export.budget import Budget
from mlstack.export.handover import MODEL_FP32, Built, Figures, Quantized, Raced
from mlstack.export.kinds import Plan
from mlstack.export.order import Order
from mlstack.records import run
from mlstack.records.base import Record
from mlstack.records.package import GateResult
from mlstack.records.variants import Times


class Stage(Record, frozen=True, kw_only=True, tag="export.stage"):
    """What is being done now."""

    text: str


@dataclass(frozen=True)
class Tried:
    """One graph and what it showed."""

    precision: str
    graph: Path | None = None
    figures: Figures | None = None
    times: list[Times] = field(default_factory=list)
    gates: list[GateResult] = field(default_factory=list)
    problem: str = ""  # it could not be made or measured

    @property
    def is_green(self) -> bool:
        """Tell whether it passed every gate."""
        return self.figures is not None and all(gate.passed for gate in self.gates)


@dataclass(frozen=True)
class Field:
    """All that were tried, full precision first."""

    tried: list[Tried]
    plan: Plan
    raced: Raced

    @property
    def baseline(self) -> Tried:
        """Give the graph in full precision."""
        return self.tried[0]


def everything(asked: Order, work: Path, built: Built) -> Generator[Record, None, Field]:
    """Try FP32, then what else suits the graph.

    Raises:
        GateError: FP32 is red, whatever its speed: then no smaller graph can be right. Or the one
            kind that was asked for cannot be made, or ends the process that measures it.
    """
    yield Stage(text="measuring it in fp32, without torch")
    first = yield from _in_full_precision(asked, work, built)
    if not first.is_green:
        yield gates.Judged(gates=first.gates)
        gates.refuse(first.gates, model=asked.model)
    plan = kinds.plan(asked.precision, asked.target, built.work)
    made = yield from ask.quantize(asked, work, built, plan.kinds)
    tried = [first]
    for answer in made:
        tried.append((yield from _smaller(asked, built, first, answer)))
        if tried[-1].problem and asked.precision != "auto":
            gates.refuse(gates.crashed(tried[-1].problem), model=asked.model)
        if tried[-1].figures is not None and not tried[-1].is_green:
            tried += yield from _spared(asked, work, built, tried)
    alive = [one.graph.name for one in tried if one.graph is not None and one.figures]
    raced = yield from ask.race(asked, work, alive, built)
    return Field(_timed(tried, raced, asked), plan, raced)


def _in_full_precision(asked: Order, work: Path, built: Built) -> Generator[Record, None, Tried]:
    try:
        return (yield from measured(asked, built, Tried("fp32", graph=work / MODEL_FP32)))
    except GateError as error:
        if error.hint or error.mistakes:
            raise
        # Torch could, onnxruntime cannot: of the networks tried, for one of these two reasons.
        hint = "let forward take any number of rows, and compute in FP32, without autocast"
        raise GateError(error.problem, hint=hint, where=error.where) from error


def _spared(
    asked: Order, work: Path, built: Built, tried: list[Tried]
) -> Generator[Record, None, list[Tried]]:
    """Try the last one again with its first layers in full precision, up to one that is green."""
    found: list[Tried] = []
    for kind in kinds.spared(tried[-1].precision):
        (answer,) = yield from ask.quantize(asked, work, built, [kind])
        found.append((yield from _smaller(asked, built, tried[0], answer)))
        if found[-1].is_green:
            break
    return found


def _smaller(
    asked: Order, built: Built, first: Tried, made: Quantized
) -> Generator[Record, None, Tried]:
    """Measure a smaller graph; one that cannot be measured is out, and says why."""
    if made.problem:
        return Tried(made.precision, problem=f"it cannot be made: {made.problem}")
    assert first.graph is not None
    assert first.figures is not None
    graph = first.graph.with_name(f"{made.precision}.onnx")
    yield Stage(text=f"measuring it in {made.precision}")
    try:
        return (
            yield from measured(asked, built, Tried(made.precision, graph=graph), first.figures)
        )
    except GateError as error:
        reasons = "; ".join(m.problem for m in error.mistakes) or error.problem
        return Tried(made.precision, graph=graph, problem=reasons)


def measured(
    asked: Order, built: Built, one: Tried, baseline: Figures | None = None
) -> Generator[Record, None, Tried]:
    """Measure a graph, and judge it by every gate but those of speed.

    Raises:
        GateError: it ended the process that measured it, or refused what it was asked.
    """
    assert one.graph is not None
    figures = yield from ask.measure(asked, one.graph, one.precision, built, baseline)
    config = asked.project.config
    standard = gates.Standard(
        gates=config.gates,
        precision=one.precision,
        max_diff=config.export.max_diff,
        run_metrics=run.summarise(asked.folder).metrics,
        allowed_drop=_allowed(asked.budget),
    )
    return replace(one, figures=figures, gates=gates.judge(figures, standard))


def _allowed(budget: Budget) -> float:
    """Give the drop of accuracy that the budget allows, as a share."""
    given = [limit.value / 100 for limit in budget.limits if limit.name == "drop"]
    return given[0] if given else gates.SMALLER_DROP


def _timed(tried: list[Tried], raced: Raced, asked: Order) -> list[Tried]:
    """Add how fast each is, and the gates of speed."""
    laps = {lap.model: lap.times for lap in raced.laps}
    first = tried[0]
    found = []
    for one in tried:
        if one.figures is None or one.graph is None:
            found.append(one)
            continue
        assert first.graph is not None
        assert first.figures is not None
        times = laps[one.graph.name]
        speed = gates.Speed(
            times=times,
            size_bytes=one.figures.size_bytes,
            baseline_times=None if one is first else laps[first.graph.name],
            baseline_size_bytes=first.figures.size_bytes,
        )
        judged = [*one.gates, *gates.judge_speed(speed, asked.project.config.gates)]
        found.append(replace(one, times=times, gates=judged))
    return found
