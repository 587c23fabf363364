import numpy as np

from mlstack.stats import binning


def test_counts_agree_with_the_definition_at_ties_and_ends():
    counts, missing = binning.counts([0.0, 1.0, 1.0, 1.5, 2.0, 9.0, float("nan")], [1.0, 2.0])

    assert counts.tolist() == [3, 2, 1]
    assert missing == 1


def test_few_distinct_values_have_a_narrow_bin_each():
    edges = binning.edges([3, 1, 1, 2, np.nan])

    seen, _ = binning.counts([3, 1, 1, 2], edges)
    beside, _ = binning.counts([0.99, 1.01, 2.5, 3.01], edges)
    assert seen.tolist() == [0, 2, 0, 1, 0, 1, 0]
    assert beside.tolist() == [1, 0, 1, 0, 1, 0, 1]


def test_rounding_to_float32_does_not_leave_the_bin_of_a_value():
    values = np.asarray([-1234.56, -1e-9, 0.0, 0.1, 3.3, 2.5e8])

    counts, _ = binning.counts(values.astype(np.float32), binning.edges(values))

    assert counts[1::2].tolist() == [1] * 6


def test_values_that_lie_close_together_keep_bins_of_their_own():
    ids = 1e7 + np.arange(4)

    counts, _ = binning.counts(ids, binning.edges(ids))

    assert counts.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_a_value_that_piles_up_among_many_has_a_bin_of_its_own():
    values = np.concatenate([np.zeros(500), np.random.default_rng(0).normal(size=500)])

    edges = binning.edges(values)

    counts, _ = binning.counts(values, edges)
    assert counts.max() == 500
    assert np.ptp(edges[counts.argmax() - 1 :][:2]) < 1e-20


def test_many_values_make_bins_of_equal_mass():
    values = np.random.default_rng(0).normal(size=10_000)

    counts, _ = binning.counts(values, binning.edges(values, 50))

    inner = counts[2:-2]  # the outer four are the ends and what lies beyond them
    assert counts.size == 54
    assert counts[[0, -1]].tolist() == [0, 0]
    assert abs(inner - 200).max() <= 2


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


def test_thinning_keeps_the_edge_below_values_that_all_lie_at_the_top():
    counts, edges = binning.thin([0, 4, 6, 0], [0.99998, 0.99999, 1.000001], gap=1e-4, top=1.0)

    assert counts.tolist() == [0, 10]
    assert np.allclose(edges, [0.99988])
