"""Compare a window with the reference profile, column by column, with the two-gate rule."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mlstack.config.schema import Drift
from mlstack.monitor.windows import Window
from mlstack.plurals import figure
from mlstack.records.reference import CategoryColumn, NumericColumn, Reference
from mlstack.records.report import Change
from mlstack.stats import binning, distances, testing

LEVEL = 0.01
ROUNDING = 1e-4
PREDICTION = "prediction"
CONFIDENCE = "confidence"
MISSING = " missing"  # after a column's name: the share of its values that are missing
DIFFERENCE = "difference"
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """One column in the reference and in the window; the counts share their bins."""

    column: str
    area: str  # input or prediction
    statistic: str
    effect: float
    limit: float
    p_value: float  # adjusted for the number of columns, once `compare` returns it
    reference: Counts
    current: Counts
    edges: tuple[float, ...] = ()  # of a numeric column
    labels: tuple[str, ...] = ()  # of a category column
    detail: str = ""
    missing: float = 0.0  # share of the window

    @property
    def is_alarming(self) -> bool:
        """Whether both gates are passed: it is no chance, and it is large enough to matter."""
        return self.p_value < LEVEL and self.effect >= self.limit

    @property
    def is_of_missing(self) -> bool:
        """Whether it compares how many values are missing, and not the values."""
        return self.statistic == DIFFERENCE

    @property
    def blame(self) -> float:
        """How many times the limit the effect is."""
        return self.effect / self.limit


def compare(reference: Reference, window: Window, limits: Drift) -> list[Comparison]:
    """Compare every column that the reference and the log share, the most to blame first.

    The p-values are adjusted together (Holm), so that a window without drift alarms in at most one
    of a hundred checks however many columns there are.
    """
    found = [
        _numeric(column, window.numeric[column.name], limits)
        for column in reference.numeric
        if column.name in window.numeric and is_filled(column)
    ]
    found += [
        _category(column, window, limits)
        for column in reference.categories
        if column.name == PREDICTION and column.counts
    ]
    found += [
        _text(column, window.numeric[column.name], limits)
        for column in reference.categories
        if is_filled(column) and np.isfinite(window.numeric.get(column.name, np.array([]))).any()
    ]
    found += [
        _missing(column, window.numeric[column.name], limits)
        for column in _inputs(reference)
        if column.name in window.numeric and _has_news_of_missing(column, window)
    ]
    adjusted = testing.holm([one.p_value for one in found])
    found = [replace(one, p_value=float(p)) for one, p in zip(found, adjusted, strict=True)]
    return sorted(found, key=lambda one: (not one.is_alarming, -one.blame))


def absent_columns(reference: Reference, window: Window) -> list[str]:
    """Name the columns of the reference that the log does not hold."""
    wanted = [column.name for column in _inputs(reference)]
    return [name for name in wanted if name not in window.numeric]


def class_changes(found: list[Comparison]) -> list[Change]:
    """Give the share of every predicted class, the most changed first."""
    for one in found:
        if one.column == PREDICTION:
            return changes_of(one)
    return []


def changes_of(one: Comparison) -> list[Change]:
    """Give the share of every value of a category column, the most changed first."""
    before = one.reference / one.reference.sum()
    now = one.current / one.current.sum()
    order = np.argsort(-np.abs(now - before), kind="stable")
    return [
        Change(value=one.labels[i], reference=float(before[i]), current=float(now[i]))
        for i in order
    ]


def change_time_us(worst: Comparison, window: Window) -> int:
    """Estimate when a column changed; the window's first row if it did before that."""
    if worst.column == PREDICTION:
        gap = worst.current / worst.current.sum() - worst.reference / worst.reference.sum()
        moved = worst.labels[int(np.abs(gap).argmax())]
        series = np.asarray([name == moved for name in window.classes])[window.predictions]
    elif worst.labels and not worst.is_of_missing:
        gap = worst.current / worst.current.sum() - worst.reference / worst.reference.sum()
        series = window.numeric[worst.column] == int(np.abs(gap).argmax())
    elif worst.labels:
        series = np.isnan(window.numeric[worst.column.removesuffix(MISSING)])
    else:
        series = _beyond(worst, window.numeric[worst.column])
    place, p_value = testing.change_point(series)
    if p_value >= LEVEL or place >= window.rows:
        place = 0
    return int(window.times_us[place])


def bins(column: NumericColumn) -> tuple[Counts, npt.NDArray[np.float64]]:
    """Give a column's counts in the reference, and the edges that a window is counted over too."""
    if column.name == CONFIDENCE:
        # Sure answers pile up at 1, and the last digit depends on the batch they were in.
        return binning.thin(column.counts, column.edges, gap=ROUNDING, top=1.0)
    return np.asarray(column.counts, dtype=np.int64), np.asarray(column.edges)


def is_filled(column: NumericColumn | CategoryColumn) -> bool:
    """Tell whether the reference has any value of a column."""
    counts = column.counts.values() if isinstance(column, CategoryColumn) else column.counts
    return any(counts)


def oddness(reference: Reference, window: Window) -> npt.NDArray[np.float64]:
    """Score how unusual each row of the window is among the reference's features.

    The sum over features of -log of the smaller tail of the reference, a Fisher 1932 combination;
    shape (rows,).
    """
    score = np.zeros(window.rows)
    for column in reference.numeric:
        values = window.numeric.get(column.name)
        if values is None or column.name == CONFIDENCE or not sum(column.counts):
            continue
        counts = np.asarray(column.counts, dtype=np.float64)
        below = counts.cumsum() - counts / 2
        tail = np.minimum(below, counts.sum() - below) + 0.5
        places = np.searchsorted(column.edges, values, side="left")
        score += np.where(np.isnan(values), 0.0, -np.log(tail / counts.sum())[places])
    return score


def _inputs(reference: Reference) -> list[NumericColumn | CategoryColumn]:
    """List the columns that the log holds as numbers: all but the prediction."""
    texts = [column for column in reference.categories if column.name != PREDICTION]
    return [*reference.numeric, *texts]


def _numeric(column: NumericColumn, values: npt.NDArray[np.float64], limits: Drift) -> Comparison:
    reference, edges = bins(column)
    counts, missing = binning.counts(values, edges)
    distance, p_value, detail = 0.0, 1.0, "every value is missing"
    if counts.sum():
        distance, _ = distances.kolmogorov_smirnov(reference, counts)
        p_value = testing.ks_p_value(distance, int(reference.sum()), int(counts.sum()))
        detail = f"mean {figure(column.mean)} -> {_mean(values)}"
    return Comparison(
        column=column.name,
        area="prediction" if column.name == CONFIDENCE else "input",
        statistic="KS",
        effect=distance,
        # Confidence is a number like any input: the same scale, hence the same limit.
        limit=limits.input,
        p_value=p_value,
        reference=reference,
        current=counts,
        edges=tuple(edges.tolist()),
        detail=detail,
        missing=missing / max(1, len(values)),
    )


def _mean(values: npt.NDArray[np.float64]) -> str:
    finite = values[np.isfinite(values)]
    return figure(float(finite.mean())) if finite.size else "infinite"


def _category(column: CategoryColumn, window: Window, limits: Drift) -> Comparison:
    seen = np.bincount(window.predictions, minlength=len(window.classes))
    now = dict(zip(window.classes, seen.tolist(), strict=True))
    labels = tuple(column.counts) + tuple(sorted(now.keys() - column.counts.keys()))
    reference = np.asarray([column.counts.get(name, 0) for name in labels], dtype=np.int64)
    current = np.asarray([now.get(name, 0) for name in labels], dtype=np.int64)
    return _shares(column.name, labels, reference, current, ("prediction", limits.prediction))


def _text(column: CategoryColumn, codes: npt.NDArray[np.float64], limits: Drift) -> Comparison:
    """Compare an input of text: the log holds codes, places among the reference's values."""
    labels = tuple(column.counts)
    known = codes[np.isfinite(codes)].astype(np.int64)
    current = np.bincount(known, minlength=len(labels))[: len(labels)]
    reference = np.asarray(list(column.counts.values()), dtype=np.int64)
    found = _shares(column.name, labels, reference, current, ("input", limits.input))
    return replace(found, missing=1 - len(known) / max(1, len(codes)))


def _shares(
    name: str,
    labels: tuple[str, ...],
    reference: Counts,
    current: Counts,
    judged: tuple[str, float],
) -> Comparison:
    """Compare how often each value is there; `judged` is the area and its limit."""
    gap = current / max(1, current.sum()) - reference / reference.sum()
    most = int(np.abs(gap).argmax())
    new = ", not in the reference" if not reference[most] else ""
    return Comparison(
        column=name,
        area=judged[0],
        statistic="TV",
        effect=distances.total_variation_excess(reference, current),
        limit=judged[1],
        p_value=testing.g_test(reference, current),
        reference=reference,
        current=current,
        labels=labels,
        detail=f"`{labels[most]}` {reference[most] / reference.sum():.1%} -> "
        f"{current[most] / current.sum():.1%}{new}",
    )


def _missing(
    column: NumericColumn | CategoryColumn, values: npt.NDArray[np.float64], limits: Drift
) -> Comparison:
    absent = int(np.isnan(values).sum())
    counts = column.counts.values() if isinstance(column, CategoryColumn) else column.counts
    before = np.asarray([sum(counts), column.missing], dtype=np.int64)
    now = np.asarray([len(values) - absent, absent], dtype=np.int64)
    shares = before[1] / before.sum(), now[1] / now.sum()
    return Comparison(
        column=column.name + MISSING,
        area="input",
        statistic=DIFFERENCE,
        effect=float(abs(shares[1] - shares[0])),
        limit=limits.input,
        p_value=testing.g_test(before, now, least=1.0),
        reference=before,
        current=now,
        labels=("present", "missing"),
        detail=f"missing {shares[0]:.1%} -> {shares[1]:.1%}",
    )


def _has_news_of_missing(column: NumericColumn | CategoryColumn, window: Window) -> bool:
    return bool(column.missing or np.isnan(window.numeric[column.name]).any())


def _beyond(worst: Comparison, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell which values lie above the edge where the two distributions differ most."""
    f = worst.reference.cumsum() / worst.reference.sum()
    g = worst.current.cumsum() / worst.current.sum()
    place = int(np.abs(f - g)[:-1].argmax())
    return values > worst.edges[place]
