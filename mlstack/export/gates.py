"""Figures -> gates: what a graph must prove before it is packed.

Some gates are always there (parity, invariants, preprocessing); the others are those of
mlstack.yaml.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mlstack.config.schema import Gates, SliceGate, ValidationGate
from mlstack.errors import GateError, Mistake
from mlstack.export.handover import Figures, Pair
from mlstack.records.base import Record
from mlstack.records.package import GateResult
from mlstack.records.variants import Times
from mlstack.stats.testing import holm, mcnemar

# Honest INT8 graphs of small nets kept 99.4 % of the classes and moved single probabilities by
# 0.16; calibrated on noise, by 0.41. The percentile leaves single rows out.
SMALLER_AGREEMENT = 0.99
SMALLER_PROBABILITY = 0.1
SMALLER_DROP = 0.01
SUM_ERROR = 1e-4
# A paired test says that a graph is worse only when chance would be rare, and it matters: with
# enough examples even a hundredth of a point is no chance.
RARE = 0.01
MATTERS = 0.002  # of all examples
MATTERS_IN_PART = 0.01  # of a class or a slice
NO_WORSE = "no worse than live"
HINTS = {
    "preprocessing min": "give what `mlstack.inputs` makes of a raw file or row; scale in forward; "
    "if the files have changed since the run, train again",
    "batch invariance max": "forward must answer each row by itself, not by its batch",
    "parity max": "forward does something that the graph does not repeat",
    "checkpoint is the run's": "the code or the files have changed since, or __init__ draws at "
    "random what no checkpoint holds (register_buffer keeps it); train again",
    NO_WORSE: "train a better one, or set gates.live to off",
    "answers are finite": "forward must not divide by zero where an input is all black or alike",
    "answers are the same twice": "forward must not answer at random",
    "runs": "the graph crashes onnxruntime; try --precision fp32",
}


class Judged(Record, frozen=True, kw_only=True, tag="export.judged"):
    """Every gate, green or red, before anything is packed."""

    gates: list[GateResult]


@dataclass(frozen=True)
class Standard:
    """What the figures are held against."""

    gates: Gates
    precision: str
    max_diff: float
    run_metrics: dict[str, float]  # as the run logged them
    allowed_drop: float = SMALLER_DROP  # of a smaller graph's accuracy, as a share


def judge(figures: Figures, standard: Standard) -> list[GateResult]:
    """Hold every figure against its limit; a gate each."""
    if standard.precision == "fp32":
        faithful = _same_as_training(figures, standard.max_diff)
    else:
        faithful = _close_to_training(figures, standard.allowed_drop)
    return [
        *faithful,
        *_invariants(figures),
        *_preprocessing(figures),
        *_as_recorded(figures, standard),
        *_validation(figures, standard),
        *_live(figures, standard.gates),
        *(_slice(figures, gate) for gate in standard.gates.slices),
        *_functionality(figures, standard.gates),
    ]


@dataclass(frozen=True)
class Speed:
    """How fast and how large a graph is, and the one that it was made of."""

    times: list[Times]
    size_bytes: int
    baseline_times: list[Times] | None = None
    baseline_size_bytes: int = 0


def judge_speed(speed: Speed, gates: Gates) -> list[GateResult]:
    """Hold latency against its limit; a smaller graph must be smaller or faster."""
    return [*_worth_it(speed), *_latency(speed.times, gates)]


def crashed(problem: str) -> list[GateResult]:
    """Give the one gate of a graph that ended the process it was measured in."""
    return [GateResult(name="runs", passed=False, detail=problem)]


def refuse(gates: list[GateResult], *, model: str) -> None:
    """Raise when a gate is red; each red one is named with what was measured.

    Raises:
        GateError: at least one gate is red.
    """
    red = [gate for gate in gates if not gate.passed]
    if red:
        raise GateError(
            f"{len(red)} of {len(gates)} gates are red; no package of `{model}` was written",
            hint="mend what is named there, and export again"
            if all(g.name in HINTS for g in red)
            else "train a better model, or change the gates in mlstack.yaml if they are wrong",
            mistakes=tuple(
                Mistake(problem=_sentence(g), hint=HINTS.get(g.name, ""), key=g.name) for g in red
            ),
        )


def at_least(name: str, measured: float, limit: float, detail: str = "") -> GateResult:
    """Judge a figure that must not be below its limit."""
    passed = measured >= limit
    return GateResult(name=name, passed=passed, measured=measured, limit=limit, detail=detail)


def at_most(name: str, measured: float, limit: float, detail: str = "") -> GateResult:
    """Judge a figure that must not be above its limit."""
    passed = measured <= limit
    return GateResult(name=name, passed=passed, measured=measured, limit=limit, detail=detail)


def not_asked(name: str, why: str) -> GateResult:
    """Give a gate that holds nothing up, and why."""
    return GateResult(name=name, passed=True, detail=f"not asked: {why}")


def _same_as_training(figures: Figures, max_diff: float) -> Iterator[GateResult]:
    parity = figures.parity
    sizes = ", ".join(map(str, parity.batch_sizes))
    where = f"{parity.examples} validation examples in batches of {sizes}"
    yield at_most("parity max", parity.max_relative_diff, max_diff, where)
    yield at_least("agreement min", parity.agreement, 1.0)
    yield at_most("batch invariance max", figures.batch_diff, max_diff)


def _close_to_training(figures: Figures, allowed: float) -> Iterator[GateResult]:
    # On few examples, one that was a close call must not decide.
    one = 1.001 / figures.parity.examples
    yield at_least("agreement min", figures.parity.agreement, min(SMALLER_AGREEMENT, 1 - one))
    detail = "99.9 % of the examples"
    yield at_most("probability change max", figures.probability_diff, SMALLER_PROBABILITY, detail)
    yield at_most("accuracy drop max", figures.accuracy_drop, max(allowed, one))
    yield at_most("batch invariance max", figures.batch_probability_diff, SMALLER_PROBABILITY)
    yield from _paired(figures.pairs)


def _paired(pairs: list[Pair]) -> Iterator[GateResult]:
    """Test whether what was lost against full precision can be chance; each part by itself."""
    whole = [pair for pair in pairs if not pair.column]
    parts = [pair for pair in pairs if pair.column]
    for pair in whole:
        yield no_worse("no worse than fp32", pair, "examples")
    if not parts:
        return
    chances = holm([mcnemar(pair.lost, pair.gained) for pair in parts]).tolist()
    bad = [
        (chance, pair)
        for chance, pair in zip(chances, parts, strict=True)
        if chance < RARE and drop(pair) > MATTERS_IN_PART
    ]
    lowest, pair = min(bad or zip(chances, parts, strict=True), key=lambda entry: entry[0])
    where = f"{pair.column} {pair.value}: {pair.lost} of {pair.examples} lost, {pair.gained} gained"
    yield GateResult(
        name="no class or slice worse",
        passed=not bad,
        measured=lowest,
        limit=RARE,
        detail=f"chance, all {len(parts)} held together; {where}",
    )


def no_worse(name: str, pair: Pair, rows: str) -> GateResult:
    """Judge a paired comparison by the chance of what was lost."""
    chance = mcnemar(pair.lost, pair.gained)
    return GateResult(
        name=name,
        passed=chance >= RARE or drop(pair) <= MATTERS,
        measured=chance,
        limit=RARE,
        detail=f"chance of {pair.lost} lost, {pair.gained} gained of {pair.examples} {rows}",
    )


def drop(pair: Pair) -> float:
    """Give the share of examples that were lost, less those gained."""
    return (pair.lost - pair.gained) / max(pair.examples, 1)


def _worth_it(speed: Speed) -> Iterator[GateResult]:
    if speed.baseline_times is None:
        return
    size = speed.size_bytes / speed.baseline_size_bytes
    faster = speed.times[0].p50_ms / speed.baseline_times[0].p50_ms
    detail = f"{size:.2f} of the size, {faster:.2f} of the latency of fp32"
    yield at_most("smaller or faster max", min(size, faster), 1.0, detail)


def _invariants(figures: Figures) -> Iterator[GateResult]:
    yield at_most("probabilities sum to 1", figures.sum_error, SUM_ERROR)
    yield at_least("answers are finite", float(figures.finite), 1.0)
    yield at_least("answers are the same twice", float(figures.deterministic), 1.0)


def _preprocessing(figures: Figures) -> Iterator[GateResult]:
    if figures.same_inputs is None:
        why = "the data module has no `input_spec`, so the package takes tensors, no raw files"
        yield not_asked("preprocessing min", why)
        return
    detail = figures.inputs_detail or "raw files decode to what the data module gives, bit by bit"
    yield at_least("preprocessing min", figures.same_inputs, 1.0, detail)


def _as_recorded(figures: Figures, standard: Standard) -> Iterator[GateResult]:
    """Compare with what the run logged: other code, other data or other weights show here."""
    both = standard.run_metrics.keys() & figures.training_metrics.keys()
    metric = next((name for name in ("test/acc", "val/acc") if name in both), None)
    if metric is None:
        return
    limit = 0.02 + 2 / figures.parity.examples
    recorded, now = standard.run_metrics[metric], figures.training_metrics[metric]
    detail = f"the run logged {metric} {recorded:.4f}, its checkpoint gives {now:.4f} today"
    yield at_most("checkpoint is the run's", abs(recorded - now), limit, detail)


def _validation(figures: Figures, standard: Standard) -> Iterator[GateResult]:
    for metric, bounds in standard.gates.validation.items():
        measured = figures.metrics.get(metric)
        detail = "measured on the graph, from the raw files" if figures.same_inputs else ""
        if measured is None:
            measured = standard.run_metrics.get(metric)
            detail = "as the run logged it"
        if measured is None:
            known = ", ".join(sorted(figures.metrics.keys() | standard.run_metrics.keys()))
            yield GateResult(name=metric, passed=False, detail=f"not measured; there is {known}")
            continue
        yield from _bounds(metric, measured, bounds, detail)
        if bounds.max_drop_vs_live is not None:
            yield _against_live(metric, measured, bounds.max_drop_vs_live, figures)


def _bounds(
    metric: str, measured: float, bounds: ValidationGate, detail: str
) -> Iterator[GateResult]:
    if bounds.min is not None:
        yield at_least(f"{metric} min", measured, bounds.min, detail)
    if bounds.max is not None:
        yield at_most(f"{metric} max", measured, bounds.max, detail)


def _against_live(metric: str, measured: float, limit: float, figures: Figures) -> GateResult:
    name = f"{metric} drop vs live"
    if metric not in figures.live_metrics:
        detail = figures.live_problem or f"the live package has no {metric}"
        return GateResult(name=name, passed=True, limit=limit, detail=detail)
    live, here = figures.live_metrics[metric], figures.rival_metrics.get(metric, measured)
    # Of a loss, more is worse.
    lost = here - live if metric.endswith("loss") else live - here
    return at_most(name, lost, limit, f"live has {live:.4f} on the same examples")


def _live(figures: Figures, gates: Gates) -> Iterator[GateResult]:
    if gates.live == "off":
        return
    if figures.live_pair is None:
        yield not_asked(NO_WORSE, figures.live_problem)
        return
    yield no_worse(NO_WORSE, figures.live_pair, "examples of the test part")


def _slice(figures: Figures, gate: SliceGate) -> GateResult:
    name = f"{gate.metric} by {gate.column} min"
    if gate.column == "class":
        found = [(value, f"class {name}") for name, value in figures.per_class.items()]
    else:
        found = [
            (s.accuracy, f"{s.column} {s.value}, {s.examples} examples")
            for s in figures.slices
            if s.column == gate.column
        ]
    if not found:
        return GateResult(
            name=name,
            passed=False,
            limit=gate.min,
            detail=f"the labels have no column `{gate.column}`, or there is no test part",
        )
    lowest, where = min(found)
    below = sum(value < gate.min for value, _ in found)
    more = f"; {below} of {len(found)} are below" if below > 1 else ""
    return at_least(name, lowest, gate.min, f"lowest: {where}{more}")


def _functionality(figures: Figures, gates: Gates) -> Iterator[GateResult]:
    if gates.functionality is None:
        return
    shown = "; ".join(figures.wrong[:5])
    more = f"; and {len(figures.wrong) - 5} more" if len(figures.wrong) > 5 else ""
    yield at_most("functionality max", float(len(figures.wrong)), 0.0, shown + more)


def _latency(times: list[Times], gates: Gates) -> Iterator[GateResult]:
    if gates.latency is None:
        return
    batch = gates.latency.batch
    measured = next(t.p99_ms for t in times if t.batch == batch)
    rows = "one row" if batch == 1 else f"{batch} rows"
    detail = f"{rows} a call on the {gates.latency.device}"
    yield at_most("latency p99 ms max", measured, gates.latency.p99_ms, detail)


def _sentence(gate: GateResult) -> str:
    if gate.measured is None:
        return f"{gate.name}: {gate.detail}"
    measured = f"measured {gate.measured:.4g}"
    limit = "" if gate.limit is None else f", limit {gate.limit:g}"
    return f"{gate.name}: {measured}{limit}" + (f" ({gate.detail})" if gate.detail else "")
