import numpy as np
import pyarrow as pa
import pytest
from monitor_log import CLASSES, confidences, features, make_reference, sheet
from msgspec.structs import replace

from mlstack.config.schema import Drift
from mlstack.monitor import drawing, drift
from mlstack.monitor.windows import Window
from mlstack.records.reference import CategoryColumn, Reference
from mlstack.records.report import Service

SERVICE = Service(requests=0, failed=0, refused=0, per_minute=0.0)
LIMITS = Drift()


def window(columns: dict[str, np.ndarray], predictions: np.ndarray) -> Window:
    classes, codes = np.unique(predictions, return_inverse=True)
    rows = len(predictions)
    return Window(
        ids=pa.array([f"p{row}" for row in range(rows)]),
        times_us=np.arange(rows, dtype=np.int64) * 1_000_000,
        numeric={name: np.asarray(v, dtype=np.float64) for name, v in columns.items()},
        predictions=codes.astype(np.int64),
        classes=[str(name) for name in classes],
        service=SERVICE,
    )


def digits_reference(rows: np.ndarray, seed: int) -> Reference:
    columns = features(rows) | {"confidence": confidences(len(rows), seed)}
    return make_reference(columns, sheet()[1][rows])


def digits_window(rows: np.ndarray, seed: int, *, pixels: int = 0) -> Window:
    columns = features(rows, pixels=pixels) | {"confidence": confidences(len(rows), seed)}
    return window(columns, sheet()[1][rows])


def test_two_hundred_clean_windows_alarm_in_at_most_two_of_a_hundred():
    alarms = 0
    for seed in range(200):
        order = np.random.default_rng(seed).permutation(1797)
        reference = digits_reference(order[:898], seed)
        clean = digits_window(order[898:1398], seed + 1000)

        alarms += any(one.is_alarming for one in drift.compare(reference, clean, LIMITS))

    assert alarms <= 4


def test_small_clean_windows_against_a_small_reference_hardly_alarm():
    alarms = 0
    for seed in range(200):
        order = np.random.default_rng(seed).permutation(1797)
        found = drift.compare(
            digits_reference(order[:360], seed), digits_window(order[360:410], seed + 1000), LIMITS
        )

        alarms += any(one.is_alarming for one in found)

    assert alarms <= 4


@pytest.mark.parametrize("rows", [50, 500])
def test_images_shifted_by_two_pixels_always_alarm(rows: int):
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(1797)
        reference = digits_reference(order[:898], seed)
        moved = digits_window(order[898 : 898 + rows], seed, pixels=2)

        found = drift.compare(reference, moved, LIMITS)

        assert found[0].column == "center_x"
        assert found[0].is_alarming


def test_a_tiny_change_in_very_many_rows_is_no_alarm():
    random = np.random.default_rng(0)
    reference = make_reference({"x": random.normal(size=50_000)}, np.asarray(["0"] * 50_000))
    moved = window({"x": random.normal(0.03, 1, 200_000)}, np.asarray(["0"] * 200_000))

    (column, _) = sorted(drift.compare(reference, moved, LIMITS), key=lambda one: one.p_value)

    assert column.p_value < 1e-4
    assert not column.is_alarming


def test_a_class_that_grows_is_named_with_both_shares():
    reference = make_reference({}, np.asarray(CLASSES * 40))
    grown = window({}, np.asarray(CLASSES * 30 + ["3"] * 200))

    (found,) = drift.compare(reference, grown, LIMITS)
    changes = drift.class_changes([found])

    assert found.is_alarming
    assert found.detail == "`3` 10.0% -> 46.0%"
    assert (changes[0].value, changes[0].current) == ("3", pytest.approx(0.46))
    assert sum(one.current for one in changes) == pytest.approx(1)


def test_a_class_that_the_reference_never_saw_counts_as_moved_mass():
    reference = make_reference({}, np.asarray(CLASSES * 40))
    strange = window({}, np.asarray(CLASSES * 30 + ["eleven"] * 100))

    (found,) = drift.compare(reference, strange, LIMITS)

    assert found.is_alarming
    assert "`eleven` 0.0% -> 25.0%, not in the reference" in found.detail


def test_values_that_go_missing_alarm_even_when_the_rest_looks_the_same():
    random = np.random.default_rng(0)
    reference = make_reference({"x": random.normal(size=400)}, np.asarray(["0"] * 400))
    values = random.normal(size=500)
    values[:200] = np.nan

    found = drift.compare(reference, window({"x": values}, np.asarray(["0"] * 500)), LIMITS)

    assert [one.column for one in found if one.is_alarming] == ["x missing"]
    assert drift.change_time_us(found[0], window({"x": values}, np.asarray(["0"] * 500))) > 1.9e8


def test_a_column_of_nothing_but_missing_values_does_not_break_the_check():
    reference = make_reference({"x": np.arange(400.0)}, np.asarray(["0"] * 400))
    gone = window({"x": np.full(500, np.nan)}, np.asarray(["0"] * 500))

    found = {one.column: one for one in drift.compare(reference, gone, LIMITS)}

    assert found["x"].effect == 0
    assert found["x missing"].is_alarming


def test_a_column_that_the_log_lacks_is_named():
    reference = make_reference({"x": np.arange(9.0), "y": np.arange(9.0)}, np.asarray(["0"] * 9))

    assert drift.absent_columns(reference, window({"x": np.ones(3)}, np.asarray(["0"] * 3))) == [
        "y"
    ]


def test_the_time_of_a_change_in_the_middle_of_the_window_is_found():
    order = np.random.default_rng(3).permutation(1797)
    before, after = digits_window(order[900:1100], 1), digits_window(order[1100:1400], 2, pixels=2)
    columns = {
        name: np.concatenate([before.numeric[name], after.numeric[name]]) for name in before.numeric
    }
    both = window(columns, sheet()[1][order[900:1400]])

    worst = drift.compare(digits_reference(order[:898], 0), both, LIMITS)[0]
    changed_us = drift.change_time_us(worst, both)

    assert abs(changed_us / 1e6 - 200) <= 10


def test_the_oddest_rows_are_those_furthest_from_the_reference():
    order = np.random.default_rng(3).permutation(1797)
    columns = features(order[900:1000]) | {}
    columns = {name: values.copy() for name, values in columns.items()}
    for name in columns:
        columns[name][7] = 5.0
    mixed = window(columns, sheet()[1][order[900:1000]])

    score = drift.oddness(digits_reference(order[:898], 0), mixed)

    assert score.argmax() == 7


def test_rounding_of_saturated_confidences_is_no_drift():
    said = np.asarray(["0"] * 500)
    unsure = confidences(200, 5)
    then = np.concatenate([np.ones(300), unsure])
    now = np.concatenate([np.full(300, 1 - 6e-8), unsure])

    found = drift.compare(
        make_reference({"confidence": then}, said), window({"confidence": now}, said), LIMITS
    )

    assert max(one.effect for one in found) < 0.01


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ([5.0], [4.0]),
        ([5.0], [6.0]),
        ([0.0], [-1.0]),
        ([0.0, 1.0], [0.0, 0.5]),
        ([0.0, 255.0], [0.0, 128.0]),
        ([1.0, 2.0, 3.0], [0.5, 1.5, 2.5]),
        ([0.0] * 9 + np.linspace(1, 2, 91).tolist(), [-3.0] * 9 + np.linspace(1, 2, 91).tolist()),
    ],
)
def test_values_beside_those_that_piled_up_alarm_and_are_drawn(then: list, now: list):
    said = np.asarray(["0"] * 300)
    before, after = (np.resize(np.sort(values), 300) for values in (then, now))
    before[:60], after[:60] = then[0], now[0]
    reference = make_reference({"x": before}, said)

    same, moved = (
        drift.compare(reference, window({"x": values}, said), LIMITS) for values in (before, after)
    )

    assert not any(one.is_alarming for one in same)
    assert [one.column for one in moved if one.is_alarming] == ["x"]
    assert "nan" not in drawing.overlay(moved[0], after)


def test_a_model_that_was_always_sure_and_is_not_any_more_alarms():
    said = np.asarray(["0"] * 300)
    sure = 1 - np.random.default_rng(0).random(300) * 1e-5
    reference = make_reference({"confidence": sure}, said)

    rounded, unsure = (
        drift.compare(reference, window({"confidence": values}, said), LIMITS)
        for values in (sure - 6e-8, np.full(300, 0.6))
    )

    assert not any(one.is_alarming for one in rounded)
    assert [one.column for one in unsure if one.is_alarming] == ["confidence"]


def test_infinities_are_compared_and_not_averaged():
    said = np.asarray(["0"] * 300)
    reference = make_reference({"x": np.linspace(0, 2, 300)}, said)
    ends = np.repeat([-np.inf, np.inf], 150)

    found = drift.compare(reference, window({"x": ends}, said), LIMITS)

    assert found[0].is_alarming
    assert found[0].detail == "mean 1 -> infinite"


def texts(codes: np.ndarray) -> tuple[Reference, Window]:
    """A reference with a column of text, and a window whose log holds these codes for it."""
    column = CategoryColumn(name="city", counts={"Bern": 60, "Zug": 40, "(other)": 0}, missing=0)
    answers = CategoryColumn(name="prediction", counts={"a": 100})
    reference = Reference(rows=100, origin="test", categories=[answers, column], classes=["a"])
    return reference, window({"city": codes}, np.full(len(codes), "a"))


def test_a_column_of_text_is_compared_by_its_values_and_names_the_one_that_moved():
    same = np.repeat([0.0, 1.0], [120, 80])
    moved = np.repeat([0.0, 1.0, 2.0], [60, 80, 60])

    found = {
        name: next(c for c in drift.compare(*texts(codes), LIMITS) if c.column == "city")
        for name, codes in {"same": same, "moved": moved}.items()
    }

    assert not found["same"].is_alarming
    assert found["moved"].is_alarming
    assert found["moved"].area == "input"
    assert found["moved"].detail == "`Bern` 60.0% -> 30.0%"
    assert drift.change_time_us(found["moved"], texts(moved)[1]) > 0


def test_a_column_of_text_that_is_missing_altogether_is_named_as_missing():
    found = drift.compare(*texts(np.full(200, np.nan)), LIMITS)

    assert [one.column for one in found if one.is_alarming] == ["city missing"]
    assert drift.absent_columns(texts(np.zeros(1))[0], window({}, np.array(["a"]))) == ["city"]


def test_a_column_of_text_may_be_called_missing():
    reference, _ = texts(np.repeat([0.0, 1.0], [120, 80]))
    named = replace(reference.categories[1], name="city missing")
    reference = replace(reference, categories=[reference.categories[0], named])
    now = window({"city missing": np.repeat([0.0, 1.0], [20, 180])}, np.full(200, "a"))

    found = drift.compare(reference, now, LIMITS)

    assert found[0].column == "city missing"
    assert drift.change_time_us(found[0], now) >= 0
