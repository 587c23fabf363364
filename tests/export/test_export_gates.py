"""Figures against limits: which gate is red, and what it says."""

import math

import msgspec
import pytest

from mlstack.config.schema import Gates
from mlstack.errors import GateError
from mlstack.export import gates
from mlstack.export.handover import Figures, Slice
from mlstack.records.package import Golden, Parity
from mlstack.records.reference import Reference

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
    accuracy_drop=0.0,
    batch_diff=1e-7,
    batch_probability_diff=1e-7,
    sum_error=1e-7,
    finite=True,
    metrics={"test/acc": 0.95, "test/loss": 0.2},
    training_metrics={"test/acc": 0.95},
    per_class={"cat": 0.9, "dog": 1.0},
    latency_ms={"p50": 1.0, "p99": 3.0},
    golden=Golden(tolerance=1e-3, examples=[]),
    reference=Reference(rows=400, origin="val+test"),
    size_bytes=300,
    same_inputs=1.0,
    slices=[
        Slice(column="site", value="north", accuracy=0.6, examples=10),
        Slice(column="site", value="south", accuracy=0.99, examples=90),
    ],
)


def judged(figures: Figures = GOOD, precision: str = "fp32", **wanted: object) -> dict:
    standard = gates.Standard(Gates.model_validate(wanted), precision, 1e-3, {"val/iou": 0.7})
    return {gate.name: gate for gate in gates.judge(figures, standard)}


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

    alone = judged(changed(live_problem="no package is live yet"), validation=wanted)
    better = judged(changed(live_metrics={"test/acc": 0.99, "test/loss": 0.1}), validation=wanted)
    worse = judged(changed(live_metrics={"test/acc": 0.90, "test/loss": 0.3}), validation=wanted)

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


def test_latency_and_functionality_gates() -> None:
    figures = changed(wrong=[f"{n}.png: 3, not 8" for n in range(7)])

    found = judged(figures, latency={"p99_ms": 2.5}, functionality="golden.jsonl")

    assert red(found) == ["functionality max", "latency p99 ms max"]
    assert "and 2 more" in found["functionality max"].detail


def test_a_smaller_graph_may_differ_a_little_and_must_be_worth_it() -> None:
    parity = msgspec.structs.replace(GOOD.parity, max_relative_diff=0.05, agreement=0.995)
    small = changed(
        parity=parity,
        baseline_size_bytes=1000,
        baseline_latency_ms={"p50": 2.0},
        probability_diff=0.02,
    )
    vain = msgspec.structs.replace(small, size_bytes=1001, latency_ms={"p50": 2.1, "p99": 3.0})
    noise = msgspec.structs.replace(small, probability_diff=0.41)

    assert red(judged(small, "int8-static")) == []
    assert red(judged(small, "fp32")) == ["parity max", "agreement min"]
    assert red(judged(vain, "int8-static")) == ["smaller or faster max"]
    assert red(judged(noise, "int8-static")) == ["probability change max"]


def test_a_red_gate_is_an_error_that_names_every_red_one() -> None:
    found = judged(validation={"test/acc": {"min": 0.99}, "test/loss": {"max": 0.1}})

    with pytest.raises(GateError) as caught:
        gates.refuse(list(found.values()), model="pets")

    assert "2 of 8 gates are red; no package of `pets` was written" in caught.value.problem
    assert [m.key for m in caught.value.mistakes] == ["test/acc min", "test/loss max"]
    assert "measured 0.95, limit 0.99" in caught.value.mistakes[0].problem


def test_a_graph_that_crashed_its_process_is_a_red_gate() -> None:
    with pytest.raises(GateError) as caught:
        gates.refuse(gates.crashed("the worker was ended by SIGSEGV"), model="pets")

    assert "SIGSEGV" in caught.value.mistakes[0].problem
