import numpy as np
import pytest
from scipy.spatial import distance
from scipy.stats import ks_2samp, wasserstein_distance

from mlstack.stats import binning, distances

RANDOM = np.random.default_rng(7)


def test_psi_is_jeffreys_divergence():
    first, second = np.array([10, 20, 70]), np.array([30, 30, 40])
    p, q = first / 100, second / 100

    assert distances.psi(first, second) == pytest.approx(float(((p - q) * np.log(p / q)).sum()))
    assert distances.psi(first, first) == 0
    assert np.isfinite(distances.psi([0, 5], [5, 0]))


def test_jensen_shannon_agrees_with_scipy():
    first, second = RANDOM.integers(0, 50, 12), RANDOM.integers(0, 50, 12)

    ours = distances.jensen_shannon(first, second)

    assert ours == pytest.approx(distance.jensenshannon(first, second, base=2))


def test_total_variation_is_the_moved_share():
    assert distances.total_variation([50, 50, 0], [50, 25, 25]) == pytest.approx(0.25)


def test_the_excess_of_total_variation_is_small_without_a_change_and_true_with_one():
    same = [
        distances.total_variation_excess(
            RANDOM.multinomial(400, [0.1] * 10), RANDOM.multinomial(500, [0.1] * 10)
        )
        for _ in range(200)
    ]
    moved = distances.total_variation_excess([50_000] * 2, [80_000, 20_000])

    assert np.mean(same) < 0.015
    assert moved == pytest.approx(0.3, abs=0.01)


def test_ks_is_exact_when_every_value_is_an_edge():
    first, second = RANDOM.poisson(4, 500), RANDOM.poisson(5, 700)
    edges = np.unique(np.concatenate([first, second]))

    d, upper = distances.kolmogorov_smirnov(
        binning.counts(first, edges)[0], binning.counts(second, edges)[0]
    )

    assert d == pytest.approx(ks_2samp(first, second).statistic)
    assert upper >= d


def test_the_true_ks_distance_lies_within_the_certified_bounds():
    for shift in (0.0, 0.1, 1.0):
        first, second = RANDOM.normal(size=900), RANDOM.normal(shift, 1, size=500)
        edges = binning.edges(first, 64)

        d, upper = distances.kolmogorov_smirnov(
            binning.counts(first, edges)[0], binning.counts(second, edges)[0]
        )

        assert d - 1e-12 <= ks_2samp(first, second).statistic <= upper + 1e-12


def test_wasserstein_agrees_with_scipy_when_every_value_is_an_edge():
    first, second = RANDOM.integers(0, 20, 300), RANDOM.integers(3, 30, 400)
    edges = np.unique(np.concatenate([first, second]))

    ours = distances.wasserstein(
        binning.counts(first, edges)[0], binning.counts(second, edges)[0], edges
    )

    assert ours == pytest.approx(wasserstein_distance(first, second))


@pytest.mark.parametrize(("first", "second"), [([1, 2], [1, 2, 3]), ([0, 0], [1, 2])])
def test_histograms_that_cannot_be_compared_are_refused(first, second):
    with pytest.raises(ValueError, match=r"shapes differ|empty"):
        distances.psi(first, second)
