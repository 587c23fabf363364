"""Whether windows of time differ by more than they always do: an e-detector over columns.

The unit of evidence is the window, not the row: rows of one day resemble each other, so a test that
takes them as independent calls every day a change. How far the calm windows lie from each other is
what a later one is measured by.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlstack.stats.distances import variation_by_chance
from mlstack.stats.testing import student_t_tail

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Statistic = Literal["KS", "TV"]

FEWEST = 8  # calm windows without which nothing is said
MOST = 56  # calm windows that later ones are compared with: eight weeks of days
RATE = 365.0  # windows between two false alarms, at least and on average
CAP = 2.0  # times the alarm's height: what was long over is forgotten in a few windows
CHANCE = 0.685  # median of Kolmogorov's law, squared
LEAST_DEVIATION = 0.1  # of a log distance
LEAST_P = 1e-12
TINY = 1e-6  # distance that stands for none


@dataclass(frozen=True)
class Course:
    """One column over windows; arrays of shape (windows,), NaN where there is nothing to say."""

    calm: int  # windows at the beginning that the last ones are compared with
    distances: Floats  # from the calm windows; of a calm one, from the others
    effects: Floats  # the same beyond what samples of these sizes differ by
    surprises: Floats  # log distance above its mean over the calm windows
    deviations: Floats  # of the log distance over the calm windows
    known: Floats  # how many independent windows the calm ones are worth

    @property
    def usual(self) -> float:
        """The largest distance of a calm window from the others."""
        return float(np.nanmax(self.distances[: self.calm], initial=0.0))


def course(counts: Counts, statistic: Statistic) -> Course:
    """Measure how far each window lies from the calm ones before it.

    Calm is the first half of all windows up to then, so that a change does not become what later
    windows are compared with before there was time to see it; and `MOST` at most.

    Args:
        counts: of one column in each window over the same bins, shape (windows, bins).
        statistic: `KS` of ordered bins, `TV` of values without an order.
    """
    names = ("distances", "effects", "surprises", "deviations", "known")
    found = {name: np.full(len(counts), np.nan) for name in names}
    seen = np.flatnonzero(counts.sum(axis=1))
    if len(seen) < FEWEST:
        return Course(calm=0, **found)
    rows = counts[seen].astype(np.float64)
    most = min(MOST, max(FEWEST, len(seen) // 2))
    for size in range(FEWEST, most + 1):
        together = rows[:size].sum(axis=0)
        calm = _distances(rows[:size], together - rows[:size], statistic)
        found["distances"][seen[:size]] = calm.distances
        later = slice(size if size == FEWEST else 2 * size, 2 * size + 2 if size < most else None)
        if not len(seen[later]):
            continue
        apart = _distances(rows[later], together[None], statistic)
        steady = float(np.median(calm.distances**2 - calm.chance**2))  # what more rows leave
        logs = _log(calm, steady)
        found["distances"][seen[later]] = apart.distances
        found["effects"][seen[later]] = np.sqrt(np.maximum(apart.distances**2 - apart.chance**2, 0))
        found["surprises"][seen[later]] = _log(apart, steady) - logs.mean()
        found["deviations"][seen[later]] = logs.std(ddof=1)
        found["known"][seen[later]] = _independent(logs)
    return Course(calm=int(seen[most - 1]) + 1, **found)


def evidence(courses: list[Course], least: float) -> Floats:
    """Add up what speaks for a change of each column, window by window.

    A Shiryaev-Roberts e-detector (Shin, Ramdas and Rinaldo 2024) of e-values calibrated from
    p-values (Vovk and Wang 2021, the mixture). A mean over the columns above `RATE` is an alarm;
    without a change there is one in `RATE` windows at most, on average, however many columns there
    are and whatever binds them. That holds where the p-values do: they take the log distances of
    calm windows as normal, and their dependence as that of neighbours.

    Args:
        courses: the columns.
        least: effect below which nothing speaks for a change.

    Returns:
        Shape (windows, columns); 0 until there are `FEWEST` calm windows.
    """
    effects, surprises, known, own = (
        np.stack([getattr(one, name) for one in courses], axis=1)
        for name in ("effects", "surprises", "known", "deviations")
    )
    is_judged = np.isfinite(surprises)
    typical = _typical(own)
    spread = np.maximum(np.where(is_judged, own, 1.0), typical) * np.sqrt(1 + 1 / known)
    p_values = student_t_tail(
        np.where(is_judged, surprises / spread, 0.0), np.where(is_judged, known - 1, 1.0)
    )
    values = e_values(p_values)
    values = np.where(effects < least, np.minimum(values, 1.0), values)
    height = CAP * RATE * len(courses)
    gathered = np.zeros_like(values)
    now = np.zeros(len(courses))
    for place, speaks in enumerate(is_judged):
        now = np.where(speaks, np.minimum((now + 1) * values[place], height), now)
        gathered[place] = now
    return gathered


def e_values(p_values: npt.ArrayLike) -> Floats:
    """Turn p-values into e-values: the mixture over all powers (Vovk and Wang 2021, section 2)."""
    p = np.clip(np.asarray(p_values, dtype=np.float64), LEAST_P, 1 - 1e-6)
    return np.asarray((1 - p + p * np.log(p)) / (p * np.log(p) ** 2), dtype=np.float64)


@dataclass(frozen=True)
class _Apart:
    """Distances, and what samples of these sizes from one source differ by; shape (windows,)."""

    distances: Floats
    chance: Floats


def _distances(windows: Floats, against: Floats, statistic: Statistic) -> _Apart:
    here, there = windows.sum(axis=1), against.sum(axis=1)
    shares = against / there[:, None]
    gaps, sizes = windows / here[:, None] - shares, np.sqrt(1 / here + 1 / there)
    if statistic == "KS":
        return _Apart(np.abs(gaps.cumsum(axis=1)).max(axis=1), np.sqrt(CHANCE) * sizes)
    return _Apart(np.abs(gaps).sum(axis=1) / 2, variation_by_chance(shares) * sizes)


def _log(apart: _Apart, steady: float) -> Floats:
    """Give log distances with what their sizes explain taken out: a small window lies further."""
    expected = np.sqrt(max(steady, 0.0) + apart.chance**2)
    logs: Floats = np.log(np.maximum(apart.distances, TINY) / np.maximum(expected, TINY))
    return logs


def _independent(usual: Floats) -> float:
    """Tell how many independent windows these are worth, by the correlation of neighbours."""
    around = usual - usual.mean()
    power = float((around**2).sum())
    correlation = max(0.0, float((around[1:] * around[:-1]).sum()) / power) if power else 0.0
    return max(3.0, len(usual) * (1 - correlation) / (1 + correlation))


def _typical(own: Floats) -> Floats:
    """Give the median deviation of the columns at each window: by luck one may look steadier."""
    typical = np.full((len(own), 1), LEAST_DEVIATION)
    rows = np.isfinite(own).any(axis=1)
    typical[rows, 0] = np.maximum(np.nanmedian(own[rows], axis=1), LEAST_DEVIATION)
    return typical
