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


def test_merging_keeps_the_total_and_the_edges_it_keeps():
    values = np.random.default_rng(1).exponential(size=5_000)
    edges = binning.edges(values, 64)
    fine, _ = binning.counts(values, edges)

    coarse, kept = binning.merge(fine, edges, 16)

    assert coarse.tolist() == binning.counts(values, kept)[0].tolist()
    assert coarse.size <= 16
