"""Variants of a graph: which are made, which one is packed, and what is left of the others."""

import json
from pathlib import Path
from types import SimpleNamespace

import msgspec
import onnx
import pytest
from export_runs import RUN, mlstack, packages
from test_export_gates import GOOD

from mlstack.errors import ConfigError, GateError
from mlstack.export import budget, choice, kinds
from mlstack.export.handover import Raced
from mlstack.export.kinds import Plan
from mlstack.export.trial import Field, Tried
from mlstack.records.package import GateResult
from mlstack.records.variants import Times, Variant, Variants

EASY = ("--set", "gates={}")
CONVOLUTIONS = {"Conv": 1000, "MatMul": 10}
PRODUCTS = {"MatMul": 1000}
MIXED = {"Conv": 100, "MatMul": 1000}


def variant(precision: str = "fp32", size_bytes: int = 1000, **p50_ms: float) -> Variant:
    """A variant that takes so many milliseconds at `b1`, `b8` rows."""
    times = [
        Times(batch=int(name[1:]), p50_ms=ms, p95_ms=2 * ms, p99_ms=3 * ms)
        for name, ms in (p50_ms or {"b1": 2.0}).items()
    ]
    return Variant(precision=precision, size_bytes=size_bytes, times=times, drop_points=0.3)


@pytest.mark.parametrize(
    ("target", "work", "made"),
    [
        ("cpu", CONVOLUTIONS, ["int8-static"]),
        ("cpu", PRODUCTS, ["int8-dynamic"]),
        ("cpu", MIXED, ["int8-static", "int8-dynamic"]),
        ("cpu", {}, []),
        ("arm", CONVOLUTIONS, ["int8-static-s8s8"]),
        ("arm", PRODUCTS, ["int8-dynamic"]),
        ("gpu", CONVOLUTIONS, ["fp16"]),
        ("tensorrt", CONVOLUTIONS, ["fp16", "int8-static-s8s8"]),
    ],
)
def test_what_a_graph_computes_and_where_it_runs_decide_what_is_made(
    target: str, work: dict, made: list[str]
) -> None:
    assert kinds.plan("auto", target, work).kinds == made


def test_dynamic_int8_is_never_made_of_convolutions_and_says_why() -> None:
    plan = kinds.plan("auto", "cpu", CONVOLUTIONS)

    assert "convolutions do 99% of the work" in plan.left_out["int8-dynamic"]
    assert "export.target: gpu" in plan.left_out["fp16"]


@pytest.mark.parametrize(
    ("asked", "target", "work", "made"),
    [
        ("int8", "cpu", CONVOLUTIONS, ["int8-static"]),
        ("int8", "arm", CONVOLUTIONS, ["int8-static-s8s8"]),
        ("int8", "cpu", PRODUCTS, ["int8-dynamic"]),
        ("int8-dynamic", "cpu", CONVOLUTIONS, ["int8-dynamic"]),
        ("fp16", "cpu", CONVOLUTIONS, ["fp16"]),
        ("fp32", "cpu", CONVOLUTIONS, []),
    ],
)
def test_what_is_asked_for_by_name_is_made(
    asked: str, target: str, work: dict, made: list[str]
) -> None:
    assert kinds.plan(asked, target, work).kinds == made


def test_a_budget_is_read_in_the_units_that_people_write() -> None:
    found = budget.parse(" size<=5MB, p50<10ms ,p95<20000us,drop<0.5pt")

    assert [(limit.name, limit.value) for limit in found.limits] == [
        ("size", 5e6),
        ("p50", 10),
        ("p95", 20),
        ("drop", 0.5),
    ]
    assert budget.parse("").limits == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("size", "`size` is not a limit"),
        ("size<5", "`size<5` is not a limit"),
        ("size<5ms", "`ms` is no unit of size"),
        ("ram<5MB", "`ram` cannot be limited"),
        ("p50<1.2.3ms", "`1.2.3` is not a number"),
        ("size<1MB,size<2MB", "`size` is limited twice"),
    ],
)
def test_a_budget_that_says_nothing_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        budget.parse(text)

    assert words in caught.value.problem


def test_what_is_over_the_budget_is_named_and_the_worst_part_counts() -> None:
    limits = budget.parse("size<500B,p50<10ms,drop<0.5pt")

    assert limits.strain(variant()) == 2
    assert limits.exceeded(variant()) == ["size 0.001 MB, not size<500B"]
    assert limits.exceeded(variant(size_bytes=400, b1=9.0)) == []
    assert limits.exceeded(variant(size_bytes=400, b8=9.0)) == ["p50 inf ms, not p50<10ms"]


def test_speed_counts_at_all_batch_sizes_together() -> None:
    base = variant(b1=1.0, b8=4.0)

    assert choice.slowness(base, base) == 1
    assert choice.slowness(variant(b1=0.5, b8=4.0), base) == pytest.approx(0.5**0.5)
    assert choice.slowness(variant(b1=1.0, b8=16.0), base) == pytest.approx(2)


@pytest.mark.parametrize(
    ("red", "limits", "name", "words"),
    [
        ("int8", "size<1B", "fp32", "fp32 came closest: size 0.0003 MB"),
        ("", "size<1B,drop<9pt", "int8", "int8 came closest: size 0.0001 MB"),
        ("fp32 int8", "", "fp32", "planted: not good"),
        ("fp32 int8", "size<1B", "fp32", "planted: not good"),
    ],
)
def test_the_gates_that_are_shown_are_those_of_the_one_that_the_refusal_names(
    red: str, limits: str, name: str, words: str
) -> None:
    tried = [
        Tried(
            precision,
            figures=msgspec.structs.replace(GOOD, size_bytes=size),
            times=[Times(batch=1, p50_ms=1.0, p95_ms=1.0, p99_ms=1.0)],
            gates=[GateResult(name="planted", passed=precision not in red, detail="not good")],
        )
        for precision, size in (("fp32", 300), ("int8", 100))
    ]
    field = Field(tried, Plan(), Raced(laps=[], runtime="", threads=1, processor=""))
    asked = SimpleNamespace(budget=budget.parse(limits), precision="auto", model="pets")
    rows = [choice.variant(one) for one in tried]
    weighed = Variants(target="cpu", variants=rows, runtime="", threads=1, processor="")

    shown = choice.named(field, weighed, asked)
    with pytest.raises(GateError) as caught:
        choice.chosen(field, weighed, asked)

    assert shown.precision == name
    assert words in caught.value.mistakes[0].problem


@pytest.mark.slow
def test_all_that_suits_is_tried_and_the_page_shows_what_changed(trained: Path) -> None:
    done = mlstack(trained, "export", "--budget", "size<60kB,drop<3pt", *EASY, "--json")

    assert done.code == 0, done.out + done.err
    rows = {v["precision"]: v for v in done.json["variants"]}
    assert done.json["precision"] == "int8-static"
    assert rows["int8-static"]["why"] == "the best inside the budget"
    assert "over the budget: size 0.10" in rows["fp32"]["why"]
    assert rows["int8-static"]["size_bytes"] < 0.5 * rows["fp32"]["size_bytes"]
    assert rows["fp16"]["size_bytes"] is None
    package = trained / done.json["path"]
    page = (package / "mlstack/report.html").read_text()
    assert page == (trained / done.json["page"]).read_text()
    assert "data:image/png;base64," in page
    stored = json.loads((package / "mlstack/variants.json").read_text())
    assert stored["budget"] == "size<60kB,drop<3pt"
    assert stored["variants"] == done.json["variants"]
    gates = {gate["name"]: gate for gate in done.json["gates"]}
    assert gates["no worse than fp32"]["passed"]
    assert "all 10 held together" in gates["no class or slice worse"]["detail"]
    facts = {e.key: e.value for e in onnx.load(package / "model.onnx").metadata_props}
    assert facts["mlstack.precision"] == "int8-static"
    assert mlstack(trained, "export", "verify").code == 0


@pytest.mark.slow
def test_nothing_inside_the_budget_is_exit_4_and_names_what_came_closest(trained: Path) -> None:
    done = mlstack(trained, "export", "--budget", "size<20kB", *EASY, "--json")

    assert done.code == 4
    error = done.json["error"]
    assert "no variant is inside the budget" in error["problem"]
    assert "int8-static came closest: size 0.0" in error["errors"][0]["problem"]
    assert packages(trained) == []
    assert "Nothing was packed" in (trained / ".mlstack/runs" / RUN / "export.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "target", "made"), [("int8", "arm", "int8-static-s8s8"), ("fp16", "gpu", "fp16")]
)
def test_smaller_precisions_pass_their_own_gates(
    trained: Path, asked: str, target: str, made: str
) -> None:
    place = ("--set", f"export.target={target}")

    done = mlstack(trained, "export", "--precision", asked, *place, *EASY, "--json")

    assert done.code == 0, done.out
    assert done.json["precision"] == made
    gates = {gate["name"]: gate for gate in done.json["gates"]}
    assert gates["agreement min"]["measured"] >= 0.99
    assert gates["smaller or faster max"]["measured"] < 0.7
