"""`stats.sequential`: calm windows stay calm, small changes that last are found."""

import numpy as np
import pytest

from mlstack.stats import sequential
from mlstack.stats.sequential import FEWEST, MOST, RATE, course, e_values, evidence

EDGES = np.linspace(-2.5, 2.5, 31)


def counted(values: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(EDGES, values), minlength=len(EDGES) + 1)


def wobbling(days: int, *, width: float, seed: int) -> np.ndarray:
    """Daily means with a weekly season and days that resemble the one before; shape (days,)."""
    random = np.random.default_rng(seed)
    season, noise = random.normal(size=7), random.normal(size=days)
    drawn = [noise[0]]
    for one in noise[1:]:
        drawn.append(0.6 * drawn[-1] + 0.8 * one)
    return width * (season[np.arange(days) % 7] - season.mean() + np.asarray(drawn)) / np.sqrt(2)


def column(means: np.ndarray, rows: int | list[int], seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    sizes = [rows] * len(means) if isinstance(rows, int) else rows
    return np.stack(
        [counted(random.normal(mean, 1, size)) for mean, size in zip(means, sizes, strict=True)]
    )


def stream(days: int, *, columns: int, width: float, rows: int | list[int], seed: int) -> list:
    made = [wobbling(days, width=width, seed=100 * seed + c) for c in range(columns)]
    return [column(means, rows, 100 * seed + c) for c, means in enumerate(made)]


def alarms(columns: list[np.ndarray], least: float = 0.02) -> np.ndarray:
    found = evidence([course(counts, "KS") for counts in columns], least)
    return found.mean(axis=1) >= RATE


@pytest.mark.parametrize("rows", [1000, [1000, 1000, 1000, 1000, 1000, 80, 60] * 26])
@pytest.mark.parametrize("seed", range(4))
def test_days_that_differ_as_days_do_raise_no_alarm(rows: int | list[int], seed: int):
    calm = stream(182, columns=5, width=0.05, rows=rows, seed=seed)

    assert not alarms(calm).any()


@pytest.mark.parametrize(("day", "within"), [(24, 12), (60, 8), (150, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_a_small_change_of_one_column_is_found_within_days(day: int, within: int, seed: int):
    total = day + 30
    columns = stream(total, columns=5, width=0.03, rows=4000, seed=seed)
    means = wobbling(total, width=0.03, seed=100 * seed) + 0.25 * (np.arange(total) >= day)
    columns[0] = column(means, 4000, seed)

    found = alarms(columns)

    assert not found[:day].any()
    assert found[day : day + within].any()
    assert found[day + within :].all()  # it does not become what is usual


def test_the_evidence_names_the_column_that_changed():
    columns = stream(60, columns=4, width=0.03, rows=4000, seed=1)
    columns[2] = column(np.where(np.arange(60) < 45, 0.0, 0.4), 4000, 7)

    found = evidence([course(counts, "KS") for counts in columns], 0.02)[-1]

    assert found.argmax() == 2
    assert found[2] > RATE > np.delete(found, 2).max()


def test_an_alarm_ends_some_days_after_what_changed_is_as_before():
    means = np.where((np.arange(90) >= 45) & (np.arange(90) < 75), 0.5, 0.0)

    found = alarms([column(means, 4000, 3), column(np.zeros(90), 4000, 4)])

    assert found[74]
    assert not found[80:].any()


def test_a_change_smaller_than_what_counts_raises_no_alarm():
    means = 0.2 * (np.arange(90) >= 45)
    columns = [column(means, 20_000, 3)]

    assert alarms(columns)[-1]
    assert not alarms(columns, least=0.2).any()


def test_mass_that_moves_between_values_is_found():
    random = np.random.default_rng(0)
    shares = np.full((60, 4), 0.25) + np.where(np.arange(60) >= 40, 1, 0)[:, None] * [
        0.05, -0.05, 0, 0,
    ]  # fmt: skip
    counts = np.stack([random.multinomial(5000, one) for one in shares])

    found = evidence([course(counts, "TV")], 0.02)[:, 0]

    assert not (found[:40] >= RATE).any()
    assert found[-1] >= RATE


def test_a_value_that_was_always_the_same_and_changes_is_found_the_first_day():
    counts = np.tile([0, 500, 0], (20, 1))
    counts[19] = [0, 0, 500]

    found = evidence([course(counts, "KS"), course(counts[:, ::-1].copy(), "KS")], 0.02)

    assert not found[:19].any(axis=None) or found[:19].max() < RATE
    assert found[19].mean() >= RATE


@pytest.mark.parametrize("windows", [0, 1, FEWEST - 1, FEWEST])
def test_few_windows_say_nothing(windows: int):
    counts = column(np.zeros(windows), 500, 0) if windows else np.zeros((0, 32), dtype=np.int64)

    found = evidence([course(counts, "KS")], 0.02)

    assert found.shape == (windows, 1)
    assert not found.any()


def test_a_window_in_which_a_column_is_empty_is_passed_over():
    counts = column(np.zeros(40), 500, 0)
    counts[[3, 30]] = 0

    one = course(counts, "KS")
    found = evidence([one], 0.02)[:, 0]

    assert np.isnan(one.distances[[3, 30]]).all()
    assert found[30] == found[29]


def test_calm_windows_are_the_first_half_and_no_more_than_eight_weeks():
    counts = column(np.zeros(400), 300, 0)

    sizes = {days: course(counts[:days], "KS").calm for days in (9, 16, 40, 112, 400)}

    assert sizes == {9: FEWEST, 16: FEWEST, 40: 20, 112: MOST, 400: MOST}


def test_windows_of_the_past_are_judged_the_same_when_later_ones_have_come():
    columns = stream(130, columns=3, width=0.05, rows=500, seed=2)

    whole = evidence([course(counts, "KS") for counts in columns], 0.02)

    for days in (20, 57, 111):
        until = evidence([course(counts[:days], "KS") for counts in columns], 0.02)
        np.testing.assert_allclose(until, whole[:days])


def test_e_values_have_a_mean_of_one_under_no_change():
    p = (np.arange(2_000_000) + 0.5) / 2_000_000

    assert e_values(p).mean() == pytest.approx(1, abs=0.07)  # its tail is heavy: 1/(p log^2 p)
    assert e_values(p).mean() <= 1
    assert (np.diff(e_values(p)) <= 0).all()
    assert e_values([0.0, 1.0]).tolist() == [e_values([sequential.LEAST_P])[0], e_values([1.0])[0]]
