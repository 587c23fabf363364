import numpy as np

from mlstack.stats import binning


def test_counts_agree_with_the_definition_at_ties_and_ends():
    counts, missing = binning.counts([0.0, 1.0, 1.0, 1.5, 2.0, 9.0, float("nan")], [1.0, 2.0])

    assert counts.tolist() == [3, 2, 1]
    assert missing == 1


def test_few_distinct_values_are_all_edges():
    assert binning.edges([3, 1, 1, 2, np.nan]).tolist() == [1, 2, 3]


def test_many_values_make_bins_of_equal_mass():
    values = np.random.default_rng(0).normal(size=10_000)

    counts, _ = binning.counts(values, binning.edges(values, 50))

    assert counts.size == 50
    assert abs(counts - 200).max() <= 2


def test_no_finite_value_gives_no_edges_and_one_bin():
    counts, missing = binning.counts([np.nan, np.nan], binning.edges([np.nan]))

    assert counts.tolist() == [0]
    assert missing == 2


def test_infinities_fall_into_the_outer_bins():
    counts, missing = binning.counts([-np.inf, np.inf], [0.0])

    assert counts.tolist() == [1, 1]
    assert missing == 0


def test_thinning_keeps_the_total_and_joins_what_only_rounding_separates():
    counts, edges = binning.thin(
        [5, 10, 20, 30, 40, 50], [0.1, 0.5, 0.99999, 0.999999, 1.0], gap=1e-4, top=1.0
    )

    assert edges.tolist() == [0.1, 0.5]
    assert counts.tolist() == [5, 10, 140]


def test_thinning_no_edge_at_all_leaves_one_bin():
    counts, edges = binning.thin([7], [], gap=1e-4, top=1.0)

    assert (counts.tolist(), edges.tolist()) == ([7], [])
