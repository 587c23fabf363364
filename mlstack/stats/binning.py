"""Values to counts between edges: bin i holds edges[i-1] < x <= edges[i]."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def edges(values: npt.ArrayLike, bins: int = 64) -> Floats:
    """Choose edges so that each bin holds about as many values; all distinct values when few.

    The distribution function at an edge is exact whatever the edges are, ties included, so the
    choice only decides where it is looked at.

    Args:
        values: finite numbers or NaN, any shape.
        bins: bins at most, counting the one above the last edge.

    Returns:
        Strictly increasing edges, at most `bins - 1` of them; empty when there is no finite value.
    """
    finite = _finite(values)
    distinct = np.unique(finite)
    if distinct.size < bins:
        return distinct
    shares = np.linspace(0, 1, bins + 1)[1:-1]
    # `lower` gives values that occur, so that ties fall on an edge and not between two.
    return np.unique(np.quantile(finite, shares, method="lower"))


def counts(values: npt.ArrayLike, edges: npt.ArrayLike) -> tuple[Counts, int]:
    """Count values between edges.

    Args:
        values: numbers; NaN is missing, an infinity falls into the first or last bin.
        edges: increasing, shape (bins - 1,).

    Returns:
        Counts of shape (bins,), and how many values are missing.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    present = flat[~np.isnan(flat)]
    bounds = np.asarray(edges, dtype=np.float64)
    places = np.searchsorted(bounds, present, side="left")
    return np.bincount(places, minlength=bounds.size + 1), int(flat.size - present.size)


def thin(
    counts: npt.ArrayLike, edges: npt.ArrayLike, gap: float, top: float
) -> tuple[Counts, Floats]:
    """Join bins so that every edge lies at least `gap` below the next, and the last below `top`.

    Values that differ by rounding alone then fall into the same bin, even where they pile up.
    """
    fine = np.asarray(counts, dtype=np.int64)
    bounds = np.asarray(edges, dtype=np.float64)
    kept = np.flatnonzero(np.diff(np.append(bounds, max([top, *bounds[-1:]]))) >= gap)
    cumulative = fine.cumsum()[kept]  # up to and with each edge that stays
    return np.diff(np.concatenate([[0], cumulative, [fine.sum()]])), bounds[kept]


def _finite(values: npt.ArrayLike) -> Floats:
    flat = np.asarray(values, dtype=np.float64).ravel()
    return flat[np.isfinite(flat)]
