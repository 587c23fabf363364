"""All that were tried -> the one that is packed, and a table that says why."""

import math

import msgspec

from mlstack.errors import GateError, Mistake
from mlstack.export import gates
from mlstack.export.budget import Budget
from mlstack.export.handover import Built
from mlstack.export.order import Order
from mlstack.export.trial import Field, Tried
from mlstack.records.variants import Variant, Variants

# Two speeds closer than this are as good as equal: then the smaller file wins.
AS_FAST = 1.1


def table(field: Field, asked: Order, built: Built) -> Variants:
    """Describe every variant, and mark the one that is best inside the budget, if any."""
    rows = [variant(one) for one in field.tried]
    allowed = [row for row in rows if _is_wanted(row, asked) and not row.why]
    inside = [row for row in allowed if not asked.budget.exceeded(row)]
    best = _best(inside, rows[0])
    rows = [_explained(row, best, rows[0], asked) for row in rows]
    rows += [Variant(precision=p, why=f"not made: {why}") for p, why in field.plan.left_out.items()]
    return Variants(
        target=asked.target,
        budget=",".join(limit.text for limit in asked.budget.limits),
        variants=rows,
        training_code=built.training_times,
        processor=field.raced.processor,
        threads=field.raced.threads,
        runtime=field.raced.runtime,
    )


def variant(one: Tried) -> Variant:
    """Describe one that was tried; whether it is packed is not decided yet."""
    figures = one.figures
    if figures is None:
        return Variant(precision=one.precision, why=one.problem)
    red = [gate.name for gate in one.gates if not gate.passed]
    return Variant(
        precision=one.precision,
        why=f"red: {', '.join(red)}" if red else "",
        size_bytes=figures.size_bytes,
        metrics=figures.metrics,
        drop_points=round(100 * _drop(one), 4),
        agreement=figures.parity.agreement,
        max_probability_diff=figures.max_probability_diff,
        times=one.times,
        red=red,
    )


def named(field: Field, weighed: Variants, asked: Order) -> Tried:
    """Give the variant that is marked; where none is, the one that `chosen` refuses by name.

    That is the one that came closest to the budget, or the first one where none passed all gates.
    """
    pairs = list(zip(field.tried, weighed.variants, strict=False))
    marked = [one for one, row in pairs if row.chosen]
    if marked:
        return marked[0]
    wanted = [(one, row) for one, row in pairs if _is_wanted(row, asked)]
    green = [(one, row) for one, row in wanted if one.is_green]
    closest = min(green, key=lambda pair: asked.budget.strain(pair[1])) if green else wanted[0]
    return closest[0]


def chosen(field: Field, weighed: Variants, asked: Order) -> Tried:
    """Give the variant that is marked.

    Raises:
        GateError: none passed all gates, or none of those is inside the budget; the latter names
            the one that came closest.
    """
    best = named(field, weighed, asked)
    if any(row.chosen for row in weighed.variants):
        return best
    gates.refuse(best.gates, model=asked.model)
    raise GateError(
        f"no variant is inside the budget; no package of `{asked.model}` was written",
        hint="allow more, or train a smaller model (train.distill)",
        mistakes=(
            Mistake(
                problem=f"{best.precision} came closest: "
                + "; ".join(asked.budget.exceeded(variant(best))),
                key="budget",
            ),
        ),
    )


def _drop(one: Tried) -> float:
    """Give the accuracy that was lost against the training code, validation and test together."""
    figures = one.figures
    assert figures is not None
    whole = [pair for pair in figures.pairs if not pair.column]
    return gates.drop(whole[0]) if whole else max(0.0, figures.accuracy_drop)


def _is_wanted(row: Variant, asked: Order) -> bool:
    """Tell whether a variant may be packed: FP32 is there to compare with, too."""
    if asked.precision == "auto":
        return True
    return (row.precision == "fp32") == (asked.precision == "fp32")


def _best(rows: list[Variant], base: Variant) -> Variant | None:
    """Take the fastest; of those that are as fast, the smallest."""
    if not rows:
        return None
    fastest = min(slowness(row, base) for row in rows)
    equals = [row for row in rows if slowness(row, base) <= AS_FAST * fastest]
    return min(equals, key=lambda row: row.size_bytes or 0)


def slowness(row: Variant, base: Variant) -> float:
    """Give the time that a variant takes of another's: the geometric mean over the batch sizes.

    A small graph in INT8 may be as fast for one row and half as fast for 32.
    """
    pairs = zip(row.times, base.times, strict=True)
    shares = [math.log(max(t.p50_ms, 1e-6) / max(b.p50_ms, 1e-6)) for t, b in pairs]
    return math.exp(sum(shares) / len(shares)) if shares else math.inf


def _explained(row: Variant, best: Variant | None, base: Variant, asked: Order) -> Variant:
    if row is best:
        return msgspec.structs.replace(row, chosen=True, why=_reason(asked.budget))
    if row.why:
        return row
    if not _is_wanted(row, asked):
        return msgspec.structs.replace(row, why="to compare with")
    over = asked.budget.exceeded(row)
    if over:
        return msgspec.structs.replace(row, why=f"over the budget: {'; '.join(over)}")
    assert best is not None
    slower = slowness(row, base) / slowness(best, base)
    why = f"takes {slower:.2f} times as long as {best.precision}"
    return msgspec.structs.replace(row, why=why if slower > AS_FAST else "as fast, and larger")


def _reason(budget: Budget) -> str:
    return "the best inside the budget" if budget.limits else "the best that passed every gate"
