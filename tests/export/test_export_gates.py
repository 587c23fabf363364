"""Figures against limits: which gate is red, and what it says."""

import math

import msgspec
import pytest

from mlstack.config.schema import Gates
from mlstack.errors import GateError
from mlstack.export import gates
from mlstack.export.handover import Figures, Pair, Slice, Stored
from mlstack.records.package import Golden, Parity
from mlstack.records.reference import Reference
from mlstack.records.variants import Times

GOOD = Figures(
    parity=Parity(
        examples=200,
        batch_sizes=[1, 2, 7, 32],
        max_abs_diff=1e-6,
        output_scale=2.0,
        max_relative_diff=5e-7,
        agreement=1.0,
    ),
    probability_diff=1e-6,
    max_probability_diff=1e-6,
    accuracy_drop=0.0,
    batch_diff=1e-7,
    batch_probability_diff=1e-7,
    sum_error=1e-7,
    finite=True,
    deterministic=True,
    metrics={"test/acc": 0.95, "test/loss": 0.2},
    training_metrics={"test/acc": 0.95},
    per_class={"cat": 0.9, "dog": 1.0},
    answers=Stored(file="", dtype="<f4", shape=[400, 2]),
    golden=Golden(tolerance=1e-3, examples=[]),
    reference=Reference(rows=400, origin="val+test"),
    size_bytes=300,
    same_inputs=1.0,
    live_problem="no package is live yet",
    slices=[
        Slice(column="site", value="north", accuracy=0.6, examples=10),
        Slice(column="site", value="south", accuracy=0.99, examples=90),
    ],
)


def judged(figures: Figures = GOOD, precision: str = "fp32", **wanted: object) -> dict:
    standard = gates.Standard(Gates.model_validate(wanted), precision, 1e-3, {"val/iou": 0.7})
    return {gate.name: gate for gate in gates.judge(figures, standard)}


def speed(p50_ms: float, size_bytes: int, **wanted: object) -> dict:
    """Judge a smaller graph beside one of 1000 bytes that takes 2 ms."""
    given = gates.Speed([lap(p50_ms)], size_bytes, [lap(2.0)], 1000)
    return {g.name: g for g in gates.judge_speed(given, Gates.model_validate(wanted))}


def lap(p50_ms: float, batch: int = 1) -> Times:
    return Times(batch=batch, p50_ms=p50_ms, p95_ms=2 * p50_ms, p99_ms=3 * p50_ms)


def pair(lost: int, gained: int, *, of: int, value: str = "") -> Pair:
    column = "class" if value else ""
    return Pair(column=column, value=value, examples=of, lost=lost, gained=gained)


def changed(**fields: object) -> Figures:
    return msgspec.structs.replace(GOOD, **fields)


def red(found: dict) -> list[str]:
    return [name for name, gate in found.items() if not gate.passed]


def test_a_good_graph_passes_without_any_gate_in_the_config() -> None:
    assert red(judged()) == []


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"batch_diff": 0.01}, "batch invariance max"),
        ({"sum_error": 0.01}, "probabilities sum to 1"),
        ({"finite": False}, "answers are finite"),
        ({"deterministic": False}, "answers are the same twice"),
        ({"same_inputs": 0.995}, "preprocessing min"),
        ({"batch_diff": math.nan}, "batch invariance max"),
    ],
)
def test_each_invariant_has_a_gate_of_its_own(fields: dict, name: str) -> None:
    assert red(judged(changed(**fields))) == [name]


def test_bounds_of_metrics_are_held_both_ways() -> None:
    found = judged(
        validation={
            "test/acc": {"min": 0.96},
            "test/loss": {"max": 0.1},
            "val/iou": {"min": 0.6},
            "test/auc": {"min": 0.5},
        }
    )

    assert red(found) == ["test/acc min", "test/loss max", "test/auc"]
    assert found["test/acc min"].measured == 0.95
    assert found["val/iou min"].detail == "as the run logged it"
    assert "not measured; there is test/acc" in found["test/auc"].detail


def test_a_drop_against_live_is_red_and_no_live_package_is_not() -> None:
    wanted = {"test/acc": {"max_drop_vs_live": 0.01}, "test/loss": {"max_drop_vs_live": 0.01}}

    alone = judged(validation=wanted)
    good, bad = {"test/acc": 0.99, "test/loss": 0.1}, {"test/acc": 0.90, "test/loss": 0.3}
    better = judged(changed(live_metrics=good), validation=wanted)
    worse = judged(changed(live_metrics=bad), validation=wanted)

    assert red(alone) == []
    assert alone["test/acc drop vs live"].detail == "no package is live yet"
    assert red(better) == ["test/acc drop vs live", "test/loss drop vs live"]
    assert red(worse) == []


def test_the_lowest_slice_decides_and_an_unknown_column_is_red() -> None:
    found = judged(
        slices=[
            {"column": "class", "min": 0.85},
            {"column": "site", "min": 0.7},
            {"column": "camera", "min": 0.1},
        ]
    )

    assert red(found) == ["acc by site min", "acc by camera min"]
    assert found["acc by class min"].measured == 0.9
    assert "site north, 10 examples" in found["acc by site min"].detail
    assert "no column `camera`" in found["acc by camera min"].detail


def test_a_paired_test_against_live_is_red_only_when_chance_is_rare() -> None:
    close = judged(changed(live_pair=pair(5, 3, of=200)))
    worse = judged(changed(live_pair=pair(14, 1, of=200)))
    off = judged(changed(live_pair=pair(14, 1, of=200)), live="off")

    assert red(close) == []
    assert red(worse) == ["no worse than live"]
    assert "14 lost, 1 gained of 200" in worse["no worse than live"].detail
    assert red(off) == []
    assert "no worse than live" not in off


def test_a_gate_that_is_not_asked_says_why() -> None:
    found = judged(changed(same_inputs=None))

    assert red(found) == []
    for name, why in (
        ("no worse than live", "not asked: no package is live yet"),
        ("preprocessing min", "not asked: the data module has no `input_spec`, so the package"),
    ):
        assert found[name].measured is None
        assert found[name].detail.startswith(why)


def test_latency_and_functionality_gates() -> None:
    figures = changed(wrong=[f"{n}.png: 3, not 8" for n in range(7)])

    found = judged(figures, functionality="golden.jsonl")
    slow = speed(1.0, 300, latency={"p99_ms": 2.5})

    assert red(found) == ["functionality max"]
    assert "and 2 more" in found["functionality max"].detail
    assert red(slow) == ["latency p99 ms max"]


def test_a_smaller_graph_may_differ_a_little() -> None:
    parity = msgspec.structs.replace(GOOD.parity, max_relative_diff=0.05, agreement=0.995)
    small = changed(parity=parity, probability_diff=0.02)
    noise = msgspec.structs.replace(small, probability_diff=0.41)

    assert red(judged(small, "int8-static")) == []
    assert red(judged(small, "fp32")) == ["parity max", "agreement min"]
    assert red(judged(noise, "int8-static")) == ["probability change max"]


def test_a_smaller_graph_must_be_worth_it() -> None:
    assert red(speed(2.1, 300)) == []
    assert red(speed(1.9, 1001)) == []
    assert red(speed(2.1, 1001)) == ["smaller or faster max"]


def test_a_class_that_got_worse_is_red_though_all_together_is_not() -> None:
    honest = [pair(4, 2, of=2000), *(pair(1, 0, of=200, value=str(n)) for n in range(10))]
    one = [pair(13, 12, of=2000), pair(13, 0, of=200, value="7")]
    one += [pair(0, 2, of=200, value=str(n)) for n in range(6)]

    assert red(judged(changed(pairs=honest), "int8-static")) == []
    found = judged(changed(pairs=one), "int8-static")

    assert red(found) == ["no class or slice worse"]
    assert "class 7: 13 of 200 lost" in found["no class or slice worse"].detail


def test_many_examples_do_not_make_a_trifle_worse() -> None:
    trifle = [pair(160, 100, of=1_000_000)]

    assert red(judged(changed(pairs=trifle), "int8-static")) == []


def test_a_red_gate_is_an_error_that_names_every_red_one() -> None:
    found = judged(validation={"test/acc": {"min": 0.99}, "test/loss": {"max": 0.1}})

    with pytest.raises(GateError) as caught:
        gates.refuse(list(found.values()), model="pets")

    assert "2 of 10 gates are red; no package of `pets` was written" in caught.value.problem
    assert [m.key for m in caught.value.mistakes] == ["test/acc min", "test/loss max"]
    assert "measured 0.95, limit 0.99" in caught.value.mistakes[0].problem


def test_a_graph_that_crashed_its_process_is_a_red_gate() -> None:
    with pytest.raises(GateError) as caught:
        gates.refuse(gates.crashed("the worker was ended by SIGSEGV"), model="pets")

    assert "SIGSEGV" in caught.value.mistakes[0].problem


def test_a_fault_of_the_network_is_not_called_one_of_its_quality() -> None:
    found = judged(msgspec.structs.replace(GOOD, finite=False))

    with pytest.raises(GateError) as refused:
        gates.refuse(list(found.values()), model="pets")

    (mistake,) = refused.value.mistakes
    assert "divide by zero" in mistake.hint
    assert refused.value.hint == "mend what is named there, and export again"


def test_other_weights_show_in_validation_where_there_is_no_test_part() -> None:
    figures = msgspec.structs.replace(GOOD, training_metrics={"val/acc": 0.3})
    standard = gates.Standard(Gates(), "fp32", 1e-3, {"val/acc": 0.9})

    found = {gate.name: gate for gate in gates.judge(figures, standard)}

    gate = found["checkpoint is the run's"]
    assert not gate.passed
    assert gate.detail == "the run logged val/acc 0.9000, its checkpoint gives 0.3000 today"
