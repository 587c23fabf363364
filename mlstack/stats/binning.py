"""Values to counts between edges: bin i holds edges[i-1] < x <= edges[i]."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def edges(values: npt.ArrayLike, bins: int = 64) -> Floats:
    """Choose edges: about equal mass in each bin, and a narrow bin of its own round a piled value.

    The distribution function at an edge is exact whatever the edges are. Edges on both sides of a
    value that many share (a constant, 0 and 1, the zeros of a count) are what tells a step at it
    from one beside it: without them a column that is always 5 looks the same when it is always 4.
    The outer two bins hold what lies beyond all values, hence nothing.

    Args:
        values: finite numbers or NaN, any shape.
        bins: how many of equal mass, and the share (1 / bins) at which a value is piled; all values
            are, when no more than that many differ.

    Returns:
        Strictly increasing edges, at most three times `bins`; empty when there is no finite value.
    """
    finite = _finite(values)
    if not finite.size:
        return finite
    distinct, frequency = np.unique(finite, return_counts=True)
    is_piled = frequency * bins >= (finite.size if distinct.size > bins else 0)
    is_piled[[0, -1]] = True
    around = _rounding(distinct)[is_piled]
    piled = distinct[is_piled]
    chosen = [piled - around, piled + around]
    if distinct.size > bins:
        shares = np.linspace(0, 1, bins + 1)[1:-1]
        cuts = np.quantile(finite, shares, method="lower")  # values that occur
        chosen.append(cuts[~np.isin(cuts, piled)])
    return np.unique(np.concatenate(chosen))


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

    Values that differ by rounding alone then fall into the same bin, even where they pile up. The
    edge below all values stays, `gap` lower: of values that all lie at the top it is the only one.
    """
    fine = np.asarray(counts, dtype=np.int64)
    bounds = np.asarray(edges, dtype=np.float64)
    kept = np.flatnonzero(np.diff(np.append(bounds, max([top, *bounds[-1:]]))) >= gap)
    cumulative, bounds_kept = fine.cumsum()[kept], bounds[kept]  # up to and with each edge
    if bounds.size and not fine[0]:
        cumulative = np.concatenate([[0], cumulative])
        bounds_kept = np.concatenate([[bounds[0] - gap], bounds_kept])
    return np.diff(np.concatenate([[0], cumulative, [fine.sum()]])), bounds_kept


def _finite(values: npt.ArrayLike) -> Floats:
    flat = np.asarray(values, dtype=np.float64).ravel()
    return flat[np.isfinite(flat)]


def _rounding(distinct: Floats) -> Floats:
    """Give how far beside each value the same value may lie after rounding to float32."""
    gaps = np.concatenate([[np.inf], np.diff(distinct), [np.inf]])
    nearest = np.minimum(gaps[:-1], gaps[1:])
    width: Floats = np.where(distinct == 0, 1e-30, np.abs(distinct) * 1e-6)
    narrow: Floats = np.minimum(width, nearest / 4)
    return narrow
