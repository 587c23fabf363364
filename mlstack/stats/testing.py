"""Whether a difference could be chance: p-values, adjustments, intervals, change points."""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MAX_TERMS = 100_000
TINY = 1e-300


def ks_p_value(distance: float, n: int, m: int) -> float:
    """Give the chance of at least this distance between samples of n and m from one source.

    Kolmogorov's series with the finite-sample correction of Stephens 1970; conservative when there
    are ties or when the distance was taken at bin edges only.
    """
    root = math.sqrt(n * m / (n + m))
    x = (root + 0.12 + 0.11 / root) * distance
    return _kolmogorov_tail(x)


def chi_square_p_value(statistic: float, degrees: int) -> float:
    """Give the chance of at least this chi-square statistic."""
    if degrees < 1:
        return 1.0
    return upper_gamma(degrees / 2, statistic / 2)


def upper_gamma(a: float, x: float) -> float:
    """Give the regularized upper incomplete gamma function Q(a, x).

    Series below x = a + 1 and Lentz's continued fraction above (Abramowitz and Stegun 6.5.29 and
    6.5.31); written here because importing scipy for one tail costs a second.

    Raises:
        ValueError: a is not above 0, or x is below 0.
    """
    if a <= 0 or x < 0:
        raise ValueError(f"Q({a}, {x}) is not defined")
    if x == 0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    return 1 - scale * _series(a, x) if x < a + 1 else scale * _fraction(a, x)


def student_t_tail(t: npt.ArrayLike, degrees: npt.ArrayLike) -> Floats:
    """Give the chance of at least t under Student's law (Student 1908), whatever shape they have.

    Args:
        t: statistics.
        degrees: degrees of freedom of each, above 0.
    """
    given, freedom = np.broadcast_arrays(np.asarray(t, float), np.asarray(degrees, float))
    tail = _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + given**2)) / 2
    chance: Floats = np.where(given > 0, tail, 1 - tail)
    return chance


def g_test(expected: npt.ArrayLike, actual: npt.ArrayLike, least: float = 5.0) -> float:
    """Give the chance that two rows of counts come from one source.

    Likelihood-ratio test of independence of the 2 x k table (Wilks 1938). Levels that expect fewer
    than `least` in either row are pooled into one, without which rare levels alarm on nothing
    (Cochran 1954).

    Args:
        expected: counts of the reference window, shape (levels,).
        actual: counts of the current window, shape (levels,).
        least: smallest expected count of a level.
    """
    table = np.asarray([expected, actual], dtype=np.float64)  # (2, levels)
    table = _pool(table[:, table.sum(axis=0) > 0], least)
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return 1.0
    model = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    held = table > 0
    statistic = 2 * float((table[held] * np.log(table[held] / model[held])).sum())
    return chi_square_p_value(max(0.0, statistic), table.shape[1] - 1)


def holm(p_values: npt.ArrayLike) -> Floats:
    """Adjust p-values so that the chance of any false alarm stays below the level (Holm 1979)."""
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given)
    factors = given.size - np.arange(given.size)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * factors))
    return adjusted


def mcnemar(lost: int, gained: int) -> float:
    """Give the chance of so many losses, or more, if losing and gaining were as likely.

    The exact one-sided test of paired answers (McNemar 1947): of the examples that only one of two
    models gets right, half should be lost. Over a thousand of them, by the normal law.
    """
    differing = lost + gained
    if differing == 0 or lost == 0:
        return 1.0
    if differing > 1000:
        z = (lost - 0.5 - differing / 2) / math.sqrt(differing / 4)
        return 0.5 * math.erfc(z / math.sqrt(2))
    ways = sum(math.comb(differing, k) for k in range(lost, differing + 1))
    return float(ways / 2**differing)


def bootstrap_mean(values: npt.ArrayLike, draws: int = 1000) -> tuple[float, float]:
    """Give the 95 % interval of a mean by drawing the values again (Efron 1979), always the same.

    Args:
        values: one difference for each pair, shape (n,).
        draws: how often they are drawn.
    """
    given = np.asarray(values, dtype=np.float64)
    source = np.random.default_rng(0)
    means = [given[source.integers(0, given.size, given.size)].mean() for _ in range(draws)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def wilson(successes: float, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Give the interval of a share (Wilson 1927); z = 1.96 covers 95 %, 2.326 bounds 99 %."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    weight = z * z / trials
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def difference_of_shares(
    first: tuple[float, int], second: tuple[float, int], z: float = 1.96
) -> tuple[float, float]:
    """Give the interval of how much the first share is above the second (Newcombe 1998, method 10).

    Args:
        first: successes and trials.
        second: successes and trials.
        z: 1.96 covers 95 %.
    """
    (low_1, high_1), (low_2, high_2) = wilson(*first, z), wilson(*second, z)
    share_1, share_2 = (hits / trials if trials else 0.5 for hits, trials in (first, second))
    gap = share_1 - share_2
    below = math.hypot(share_1 - low_1, high_2 - share_2)
    above = math.hypot(high_1 - share_1, share_2 - low_2)
    return gap - below, gap + above


def change_point(values: npt.ArrayLike) -> tuple[int, float]:
    """Find where the mean of a series changed (cumulative sums, Page 1955).

    Args:
        values: a series in the order of time, shape (n,), without NaN.

    Returns:
        The position of the first value after the change, and the chance of so clear a change in a
        series without one (the bridge's maximum follows Kolmogorov's law).
    """
    series = np.asarray(values, dtype=np.float64)
    deviation = float(series.std()) if series.size else 0.0
    if deviation == 0.0:
        return 0, 1.0
    bridge = np.abs((series - series.mean()).cumsum()) / (deviation * math.sqrt(series.size))
    place = int(bridge.argmax())
    return place + 1, _kolmogorov_tail(float(bridge[place]))


def _kolmogorov_tail(x: float) -> float:
    if x < 0.2:
        return 1.0  # the series does not converge there, and the value is 1 to ten digits
    terms = [math.exp(-2 * (k * x) ** 2) for k in range(1, 101)]
    return min(1.0, max(0.0, 2 * (math.fsum(terms[::2]) - math.fsum(terms[1::2]))))


def _pool(table: Floats, least: float) -> Floats:
    smaller_row = table.sum(axis=1).min() / max(table.sum(), 1.0)
    rare = table.sum(axis=0) * smaller_row < least
    if not rare.any():
        return table
    pooled = table[:, rare].sum(axis=1, keepdims=True)
    kept = table[:, ~rare]
    if pooled.sum() * smaller_row >= least or kept.shape[1] < 2:
        return np.concatenate([kept, pooled], axis=1)
    smallest = int(kept.sum(axis=0).argmin())  # the pool itself is too small: add one more level
    kept[:, smallest] += pooled[:, 0]
    return kept


def _incomplete_beta(a: Floats, b: float, x: Floats) -> Floats:
    """Give the regularized incomplete beta function (DLMF 8.17.22, Lentz's way)."""
    is_far = x >= (a + 1) / (a + b + 2)  # there the other tail's fraction is the quick one
    first, second = np.where(is_far, b, a), np.where(is_far, a, b)
    place = np.clip(np.where(is_far, 1 - x, x), TINY, 1.0)
    size = np.vectorize(math.lgamma, otypes=[float])
    scale = size(first + second) - size(first) - size(second)
    scale = np.exp(scale + first * np.log(place) + second * np.log1p(-np.minimum(place, 1 - 1e-16)))
    c, d = np.ones_like(place), 1 / (1 - (first + second) * place / (first + 1))
    value = d
    for m in range(1, 200):
        even = m * (second - m) * place / ((first + 2 * m - 1) * (first + 2 * m))
        top = -(first + m) * (first + second + m) * place
        for numerator in (even, top / ((first + 2 * m) * (first + 2 * m + 1))):
            d, c = 1 / (1 + numerator * d), 1 + numerator / c
            value = value * d * c
        if np.abs(d * c - 1).max(initial=0.0) < 1e-15:
            break
    near = scale * value / first
    share: Floats = np.where(is_far, 1 - near, near)
    return share


def _series(a: float, x: float) -> float:
    term = total = 1 / a
    for step in range(1, MAX_TERMS):
        term *= x / (a + step)
        total += term
        if term < total * 1e-16:
            break
    return total


def _fraction(a: float, x: float) -> float:
    b = x + 1 - a
    c = 1 / TINY
    d = 1 / b
    value = d
    for step in range(1, MAX_TERMS):
        numerator = -step * (step - a)
        b += 2
        d = 1 / _away_from_zero(numerator * d + b)
        c = _away_from_zero(b + numerator / c)
        value *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > TINY else TINY
