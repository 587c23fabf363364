"""Dots over a number or over choices, as inline SVG that needs no script."""

import math
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 460, 230, 58, 16, 26, 10
FAR = 30.0  # times as large: values so far apart are drawn on a logarithmic axis
MARKS = 5


@dataclass(frozen=True)
class Dot:
    """One trial: where it stands, how it looks (nothing, pruned or best), what it says."""

    across: Any
    height: float
    look: str
    said: str


@dataclass(frozen=True)
class _Axis:
    """Places between 0 and 1, and what is written below them."""

    places: list[float]
    marks: list[tuple[float, str]]


def draw(title: str, dots: list[Dot], way: list[tuple[float, float]] | None = None) -> str:
    """Draw dots, and a line of steps through the points of `way`; nothing without dots."""
    dots = [dot for dot in dots if math.isfinite(dot.height)]
    if not dots:
        return ""
    low, high = min(dot.height for dot in dots), max(dot.height for dot in dots)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    axis = _axis([dot.across for dot in dots])

    def down(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM - 8)

    circles = "".join(
        f'<circle class="{dot.look}" r="4" cx="{_across(place):.1f}" cy="{down(dot.height):.1f}">'
        f"<title>{escape(dot.said)}</title></circle>"
        for dot, place in zip(dots, axis.places, strict=True)
    )
    places = (
        {dot.across: place for dot, place in zip(dots, axis.places, strict=True)} if way else {}
    )
    steps = [(_across(places[x]), down(y)) for x, y in way or []]
    line = "".join(
        f"M{x:.1f} {y:.1f}" if number == 0 else f"H{x:.1f}V{y:.1f}"
        for number, (x, y) in enumerate(steps)
    )
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(_rung(value, down) for value in _ticks(low, high))}"
        f"{''.join(_mark(place, name) for place, name in axis.marks)}"
        f'<path class="base" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
        f'<path class="way" d="{line}"/>{circles}</svg></figure>'
    )


def _axis(values: list[Any]) -> _Axis:
    are_numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    different = len(set(values))
    are_drawn = different == len(values) > 1 and any(isinstance(v, float) for v in values)
    if are_numbers and (different > MARKS or are_drawn):  # from a range, not out of a few
        return _numbers([float(value) for value in values])
    names = list(dict.fromkeys(map(_name, sorted(values) if are_numbers else values)))
    spots = {name: (number + 0.5) / len(names) for number, name in enumerate(names)}
    return _Axis([spots[_name(value)] for value in values], [(spots[n], n) for n in names])


def _name(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _numbers(values: list[float]) -> _Axis:
    low, high = min(values), max(values)
    if low > 0 and high / low > FAR:
        ends = math.log(low), math.log(high)
        places = [(math.log(value) - ends[0]) / (ends[1] - ends[0]) for value in values]
        marks = [math.exp(ends[0] + (ends[1] - ends[0]) * n / 4) for n in range(MARKS)]
    else:
        places = [(value - low) / (high - low) for value in values]
        return _Axis(places, [((t - low) / (high - low), f"{t:.6g}") for t in _ticks(low, high)])
    return _Axis(places, [(n / 4, f"{mark:.2g}") for n, mark in enumerate(marks)])


def _ticks(low: float, high: float) -> list[float]:
    """Give round numbers between two bounds."""
    rough = (high - low) / MARKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def _across(place: float) -> float:
    return LEFT + 8 + place * (WIDTH - LEFT - RIGHT - 16)


def _rung(value: float, down: Any) -> str:
    y = f"{down(value):.1f}"
    return (
        f'<path class="rung" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 6}" y="{y}" dy="4" text-anchor="end">{value:.4g}</text>'
    )


def _mark(place: float, name: str) -> str:
    return (
        f'<text x="{_across(place):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
        f"{escape(name)}</text>"
    )
