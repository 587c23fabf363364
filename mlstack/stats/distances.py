"""How far two histograms over the same bins are from each other."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def psi(expected: npt.ArrayLike, actual: npt.ArrayLike) -> float:
    """Measure how far a histogram has moved (population stability index, nats).

    Symmetric form of the KL divergence, Jeffreys 1946. Empty bins count as half an observation.

    Args:
        expected: counts of the reference window, shape (bins,).
        actual: counts of the current window over the same edges, shape (bins,).

    Raises:
        ValueError: the shapes differ.
    """
    first, second = _pair(expected, actual)
    p = _shares(np.maximum(first, 0.5))
    q = _shares(np.maximum(second, 0.5))
    return float(((p - q) * np.log(p / q)).sum())


def jensen_shannon(expected: npt.ArrayLike, actual: npt.ArrayLike) -> float:
    """Give the Jensen-Shannon distance, base 2, between 0 and 1 (Endres and Schindelin 2003)."""
    first, second = _pair(expected, actual)
    p, q = _shares(first), _shares(second)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return float(np.sqrt(max(divergence, 0.0)))


def total_variation(expected: npt.ArrayLike, actual: npt.ArrayLike) -> float:
    """Give the share of mass that moved: half the sum of absolute differences, 0 to 1."""
    first, second = _pair(expected, actual)
    return float(np.abs(_shares(first) - _shares(second)).sum() / 2)


def total_variation_excess(expected: npt.ArrayLike, actual: npt.ArrayLike) -> float:
    """Give the share of mass that moved beyond what two equal sources show by chance.

    The sampled total variation is never 0; its mean under no change is about
    sum_k sqrt(p_k (1 - p_k) (1/n + 1/m) / (2 pi)) with the pooled shares p (normal
    approximation; Weissman et al. 2003 bound the same quantity). That mean is subtracted and the
    rest floored at 0, so the number can be compared between windows of any size.
    """
    first, second = _pair(expected, actual)
    n, m = first.sum(), second.sum()
    noise = float(variation_by_chance(_shares(first + second))) * np.sqrt(1 / n + 1 / m)
    return max(0.0, total_variation(first, second) - float(noise))


def variation_by_chance(shares: Floats) -> Floats:
    """Give the mean total variation of two samples from one source, but for their sizes.

    Times sqrt(1/n + 1/m) it is that of samples of n and m (see `total_variation_excess`).

    Args:
        shares: of the source, shape (..., bins).
    """
    return np.asarray(np.sqrt(shares * (1 - shares) / (2 * np.pi)).sum(axis=-1), dtype=np.float64)


def kolmogorov_smirnov(expected: npt.ArrayLike, actual: npt.ArrayLike) -> tuple[float, float]:
    """Bound the largest distance of two distribution functions from counts alone.

    At the edges the distance is exact. Inside a bin both functions only rise, so their distance
    there is at most what the bin's two ends allow.

    Returns:
        The distance at the edges, and a certified upper bound of the distance anywhere
        (Kolmogorov 1933, Smirnov 1948).
    """
    first, second = _pair(expected, actual)
    f, g = _cumulative(first), _cumulative(second)
    inside = np.maximum(f[1:] - g[:-1], g[1:] - f[:-1])
    return float(np.abs(f - g).max()), float(inside.max())


def wasserstein(expected: npt.ArrayLike, actual: npt.ArrayLike, edges: npt.ArrayLike) -> float:
    """Give how far mass moved, in the column's own unit (Kantorovich 1942).

    The mass of a bin is taken to lie on its upper edge, that of the last bin on the last edge:
    exact when every value is an edge, a lower bound for mass beyond the last edge.

    Args:
        expected: counts of the reference window, shape (bins,).
        actual: counts of the current window, shape (bins,).
        edges: increasing, shape (bins - 1,).
    """
    first, second = _pair(expected, actual)
    gap = np.abs(_cumulative(first) - _cumulative(second))[1:-1]  # (bins - 1,), at the edges
    widths = np.diff(np.asarray(edges, dtype=np.float64))
    return float((gap[:-1] * widths).sum())


def _pair(expected: npt.ArrayLike, actual: npt.ArrayLike) -> tuple[Floats, Floats]:
    first = np.asarray(expected, dtype=np.float64)
    second = np.asarray(actual, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"shapes differ: {first.shape} and {second.shape}")
    if not first.sum() or not second.sum():
        raise ValueError("a histogram is empty")
    return first, second


def _shares(counts: Floats) -> Floats:
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def _cumulative(counts: Floats) -> Floats:
    return np.concatenate([[0.0], counts.cumsum() / counts.sum()])


def _relative_entropy(p: Floats, q: Floats) -> float:
    held = p > 0
    return float((p[held] * np.log2(p[held] / q[held])).sum())
