import numpy as np
import pytest
from scipy import special, stats

from mlstack.stats import testing

RANDOM = np.random.default_rng(11)


@pytest.mark.parametrize("n", [50, 500, 20_000])
@pytest.mark.parametrize("target", [0.5, 0.05, 0.01, 1e-4])
def test_ks_p_values_agree_with_scipy(n, target):
    m = 360
    distance = stats.kstwo.isf(target, round(n * m / (n + m)))

    assert testing.ks_p_value(distance, n, m) == pytest.approx(target, rel=0.15)


def test_ks_p_value_of_no_distance_is_one():
    assert testing.ks_p_value(0.0, 10, 10) == 1.0


@pytest.mark.parametrize("a", [0.5, 1.0, 4.5, 60.0, 5000.0])
@pytest.mark.parametrize("ratio", [0.01, 0.5, 0.99, 1.01, 1.5, 4.0])
def test_the_incomplete_gamma_function_agrees_with_scipy(a, ratio):
    ours = testing.upper_gamma(a, a * ratio)

    assert ours == pytest.approx(special.gammaincc(a, a * ratio), rel=1e-9, abs=1e-290)


def test_the_incomplete_gamma_function_refuses_what_is_not_defined():
    with pytest.raises(ValueError, match="not defined"):
        testing.upper_gamma(0.0, 1.0)
    assert testing.upper_gamma(2.0, 0.0) == 1.0


def test_the_g_test_agrees_with_scipy_when_no_level_is_rare():
    first, second = RANDOM.integers(50, 90, 10), RANDOM.integers(50, 90, 10)

    theirs = stats.chi2_contingency([first, second], correction=False, lambda_="log-likelihood")

    assert testing.g_test(first, second) == pytest.approx(theirs.pvalue, rel=1e-9)


def test_the_g_test_holds_its_level_with_hundreds_of_rare_levels():
    shares = RANDOM.dirichlet(np.full(300, 0.3))
    p_values = [
        testing.g_test(RANDOM.multinomial(1000, shares), RANDOM.multinomial(500, shares))
        for _ in range(400)
    ]

    assert np.mean(np.array(p_values) < 0.05) < 0.08


def test_the_g_test_of_one_level_or_an_empty_row_says_nothing():
    assert testing.g_test([10], [20]) == 1.0
    assert testing.g_test([10, 5], [0, 0]) == 1.0


def test_holm_agrees_with_the_worked_example():
    adjusted = testing.holm([0.01, 0.04, 0.03, 0.005])

    assert adjusted.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_wilson_agrees_with_scipy():
    for hits, n in ((0, 30), (7, 20), (20, 20)):
        theirs = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")

        low, high = testing.wilson(hits, n, z=stats.norm.ppf(0.975))

        assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert testing.wilson(0, 0) == (0.0, 1.0)


def test_a_change_point_is_found_where_it_is():
    series = np.concatenate([RANDOM.normal(size=200), RANDOM.normal(1.5, 1, size=300)])

    place, p_value = testing.change_point(series)

    assert abs(place - 200) < 15
    assert p_value < 1e-6


def test_a_steady_or_constant_series_has_no_change_point():
    p_values = [testing.change_point(RANDOM.normal(size=300))[1] for _ in range(200)]

    assert np.mean(np.array(p_values) < 0.01) < 0.04
    assert testing.change_point(np.ones(10)) == (0, 1.0)


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (0, 4), (3, 0), (7, 1), (40, 22), (700, 620)])
def test_mcnemar_is_the_binomial_test_of_the_differing_pairs(lost: int, gained: int):
    found = testing.mcnemar(lost, gained)

    if lost + gained == 0:
        assert found == 1
        return
    exact = stats.binomtest(lost, lost + gained, 0.5, alternative="greater").pvalue
    assert found == pytest.approx(exact, rel=2e-3)


def test_the_bootstrap_interval_holds_the_mean_and_has_the_normal_width():
    values = np.random.default_rng(1).normal(0.3, 1, 2000)

    low, high = testing.bootstrap_mean(values)

    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 2000**0.5, rel=0.1)
    assert testing.bootstrap_mean(values) == (low, high)


def test_the_difference_of_two_shares_is_that_of_newcombes_table():
    low, high = testing.difference_of_shares((56, 70), (48, 80), z=1.959964)

    assert (low, high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))
    assert testing.difference_of_shares((10, 10), (0, 10))[0] > 0.5
    assert testing.difference_of_shares((0, 0), (5, 10))[0] < 0


@pytest.mark.parametrize("degrees", [1, 2.5, 10, 55, 1e5])
def test_the_tail_of_students_law_agrees_with_scipy(degrees):
    t = np.concatenate([np.linspace(-9, 9, 101), [0.0, 1e-9, 50.0]])

    ours = testing.student_t_tail(t, degrees)

    np.testing.assert_allclose(ours, stats.t.sf(t, degrees), rtol=1e-6)
