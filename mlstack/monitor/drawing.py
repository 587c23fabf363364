"""Inline SVG: histograms over each other, bars with a limit."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from mlstack.monitor.drift import Comparison
from mlstack.monitor.gradual import Judged
from mlstack.plurals import figure
from mlstack.records.report import Course

BINS = 36
WIDTH = 360
HEIGHT = 72
ONE_VALUE = 1e-5  # of its size: what differs by less than that is one value and its rounding
TINY = 1e-29
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Scale:
    """The horizontal axis of a histogram."""

    low: float
    high: float


def overlay(one: Comparison, values: Floats) -> str:
    """Draw the reference as a grey area, and the window's own values outlined over it."""
    finite = values[np.isfinite(values)]
    scale = _scale(one, finite)
    then = _density(one, scale)
    now = np.histogram(finite, bins=BINS, range=(scale.low, scale.high))[0] / max(1, finite.size)
    top = max(then.max(), now.max(), 1e-12)
    low, high = figure(scale.low), figure(scale.high)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 16}" role="img" '
        f'aria-label="distribution then and now">'
        f'<path class="then" d="{_steps(then / top)}"/><path class="now" d="{_steps(now / top)}"/>'
        f'<path class="axis" d="M0 {HEIGHT}.5H{WIDTH}"/>'
        f'<text x="0" y="{HEIGHT + 13}">{low}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 13}" text-anchor="end">{high}</text></svg>'
    )


def course(judged: Judged, one: Course) -> str:
    """Draw how far a column lay from its calm days, day by day, over what calm days differ by."""
    distances = judged.distances[one.column]
    top = 1.15 * max(float(np.nanmax(distances, initial=0.0)), one.usual, TINY)
    step = WIDTH / max(1, len(distances) - 1)
    level = HEIGHT - one.usual / top * HEIGHT
    places = [
        (place * step, HEIGHT - float(value) / top * HEIGHT)
        for place, value in enumerate(distances)
        if np.isfinite(value)
    ]
    line = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    kind = "fill alert" if one.alert else "dot"
    since = judged.dates.index(one.since) * step if one.alert and one.since else WIDTH + 1
    dots = "".join(
        f'<circle class="{kind if x >= since else "dot"}" cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>'
        for x, y in places
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 16}" role="img" aria-label="distance by day">'
        f'<rect class="calm" y="{level:.1f}" width="{WIDTH}" height="{HEIGHT - level:.1f}"/>'
        f'<path class="course" d="M{line}"/>{dots}<path class="axis" d="M0 {HEIGHT}.5H{WIDTH}"/>'
        f'<text x="0" y="{HEIGHT + 13}">{_day(judged.dates[0])}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 13}" text-anchor="end">{_day(judged.dates[-1])}</text>'
        "</svg>"
    )


def pair(reference: float, current: float, most: float) -> str:
    """Draw two shares as bars below each other, the longest share being the full width."""
    then, now = (100 * share / most if most else 0.0 for share in (reference, current))
    return (
        '<svg viewBox="0 0 100 14" preserveAspectRatio="none" style="height:20px" '
        'aria-hidden="true">'
        f'<rect class="bar-then" y="0" width="{then:.2f}" height="5.5"/>'
        f'<rect class="bar-now" y="7.5" width="{now:.2f}" height="5.5"/></svg>'
    )


def gauge(effect: float, limit: float, *, alert: bool) -> str:
    """Draw an effect against its limit; the limit stands at 40 % of the width or further left."""
    full = max(limit * 2.5, effect, 1e-12)
    filled, mark = 100 * effect / full, 100 * limit / full
    kind = "fill alert" if alert else "fill"
    return (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" style="height:10px" '
        'aria-hidden="true"><rect class="track" y="3" width="100" height="4"/>'
        f'<rect class="{kind}" y="3" width="{filled:.2f}" height="4"/>'
        f'<path class="limit" vector-effect="non-scaling-stroke" d="M{mark:.2f} 0V10"/></svg>'
    )


def _scale(one: Comparison, finite: Floats) -> _Scale:
    ends = _ends(one)
    low = float(finite.min(initial=ends[0]))
    high = float(finite.max(initial=ends[-1]))
    # A column of one value, which has an edge on either side, still needs an axis.
    size = max(abs(low), abs(high))
    is_one_value = high - low <= max(size * ONE_VALUE, TINY)
    margin = (size * 0.1 if size > TINY else 1.0) if is_one_value else 0.0
    return _Scale(*(0.0 if abs(end) < TINY else end for end in (low - margin, high + margin)))


def _density(one: Comparison, scale: _Scale) -> Floats:
    """Give the reference's share in equal steps of the axis.

    Mass is spread evenly inside its bin.
    """
    cumulative = np.concatenate([[0.0], one.reference.cumsum() / one.reference.sum()])
    places = np.linspace(scale.low, scale.high, BINS + 1)
    return np.diff(np.interp(places, _ends(one), cumulative))


def _ends(one: Comparison) -> Floats:
    """Give the ends of all bins; an open one that holds something is as wide as its neighbour."""
    edges = np.asarray(one.edges)
    first, last = (float(np.ptp(pair)) for pair in (edges[:2], edges[-2:]))
    # No neighbour means one edge alone: its mass is drawn as a bar of its own.
    least = (abs(float(edges[0])) or 1.0) * 1e-3
    below = (first or least) if one.reference[0] else 0.0
    above = (last or least) if one.reference[-1] else 0.0
    return np.concatenate([[edges[0] - below], edges, [edges[-1] + above]])


def _day(date: str) -> str:
    return f"{datetime.fromisoformat(date):%d %B}".lstrip("0")


def _steps(heights: Floats) -> str:
    width = WIDTH / len(heights)
    points = [f"M0 {HEIGHT}"]
    for place, height in enumerate(heights):
        points.append(f"V{HEIGHT - height * (HEIGHT - 4):.1f}H{(place + 1) * width:.1f}")
    return "".join(points) + f"V{HEIGHT}Z"
