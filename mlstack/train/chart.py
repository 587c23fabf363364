"""Charts as inline SVG: whole without a script, and with what a small script shows on hover."""

import math
from dataclasses import dataclass
from html import escape

import msgspec

from mlstack.train.curves import thin

WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP = 460, 230, 58, 12, 26, 10
COLOURS = ("#3b78e7", "#e0662a", "#1f9d63", "#a04cc9", "#b8860b", "#1598ad", "#d03a6c", "#7a8599")
GOLDEN_ANGLE = 137.508  # degrees; as many hues as there are runs, neighbours far apart


@dataclass(frozen=True)
class Curve:
    """One line of a chart; `look` is solid, dashed or faint."""

    name: str
    points: list[tuple[float, float]]
    colour: str
    look: str = "solid"
    run: str = ""  # curves of a run are shown and hidden together


@dataclass(frozen=True)
class Chart:
    """Curves over one axis; `unit` is empty, %, bytes or a word."""

    title: str
    curves: list[Curve]
    axis: str = "step"
    unit: str = ""
    from_zero: bool = False
    legend: bool = True


@dataclass(frozen=True)
class _Frame:
    """The ranges of both axes."""

    left: float
    right: float
    low: float
    high: float

    def across(self, x: float) -> float:
        """Place a value of the axis."""
        return LEFT + (x - self.left) / (self.right - self.left) * (WIDTH - LEFT - RIGHT)

    def down(self, y: float) -> float:
        """Place a value of the curves."""
        return TOP + (self.high - y) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)


def colour(number: int) -> str:
    """Give the colour of the n-th curve; those after the chosen eight go round the wheel."""
    if number < len(COLOURS):
        return COLOURS[number]
    return f"hsl({number * GOLDEN_ANGLE % 360:.0f} 60% 50%)"


def draw(chart: Chart) -> str:
    """Draw a chart; nothing when none of its values is a number."""
    curves = [_drawable(curve) for curve in chart.curves]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return ""
    frame = _frame(curves, from_zero=chart.from_zero)
    lines = "".join(_line(curve, frame) for curve in curves)
    legend = f'<div class="legend">{"".join(map(_key, curves))}</div>' if chart.legend else ""
    label = ", ".join(dict.fromkeys(curve.name for curve in curves))
    return (
        f'<figure data-chart="{escape(_data(chart, curves, frame))}">'
        f"<figcaption>{escape(chart.title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"{chart.title}: {label}")}">'
        f"{_grid(chart, frame)}{lines}<g class=hover></g></svg>{legend}</figure>"
    )


def _drawable(curve: Curve) -> Curve:
    finite = [(x, y) for x, y in curve.points if math.isfinite(x) and math.isfinite(y)]
    return Curve(curve.name, thin(finite), curve.colour, curve.look, curve.run)


def _frame(curves: list[Curve], *, from_zero: bool) -> _Frame:
    xs = [x for curve in curves for x, _ in curve.points]
    ys = [y for curve in curves for _, y in curve.points]
    low, high = (min(0.0, *ys), max(ys)) if from_zero else (min(ys), max(ys))
    if high <= low:
        low, high = (low, low + 1) if from_zero else (low - 0.5, high + 0.5)
    room = (high - low) * 0.04
    left, right = min(xs), max(xs)
    if right <= left:  # one look at it: the way there from the beginning
        left, right = min(left, 0.0), max(right, 1.0)
    return _Frame(left, right, low if from_zero else low - room, high + room)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Give round numbers between two bounds, at most so many."""
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first = math.ceil(low / step)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def said(value: float, unit: str) -> str:
    """Write a value with its unit, short."""
    if unit == "%":
        return f"{100 * value:.3g}%"
    if unit == "bytes":
        return size(value)
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def size(count: float) -> str:
    """Write a number of bytes, short."""
    for power, name in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.3g} {name}"
    return f"{count:.0f} B"


def _grid(chart: Chart, frame: _Frame) -> str:
    base = HEIGHT - BOTTOM
    parts = []
    for value in _rungs(chart, frame):
        y = f"{frame.down(value):.1f}"
        parts.append(
            f'<path class="rung" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 6}" y="{y}" dy="4" text-anchor="end">'
            f"{said(value, chart.unit)}</text>"
        )
    parts.append(f'<text x="{LEFT - 10}" y="{base + 16}" text-anchor="end">{chart.axis}</text>')
    for value in ticks(frame.left, frame.right):
        x = f"{frame.across(value):.1f}"
        parts.append(
            f'<path class="rung" d="M{x} {base}v4"/>'
            f'<text x="{x}" y="{base + 16}" text-anchor="middle">{value:g}</text>'
        )
    return "".join(parts) + f'<path class="base" d="M{LEFT} {base}H{WIDTH - RIGHT}"/>'


def _rungs(chart: Chart, frame: _Frame) -> list[float]:
    """Give the heights that are marked; those of bytes are round in their own unit."""
    if chart.unit != "bytes":
        return ticks(frame.low, frame.high)
    power = next((p for p in (40, 30, 20, 10) if frame.high >= 1 << p), 0)
    return [value * (1 << power) for value in ticks(frame.low / 2**power, frame.high / 2**power)]


def _line(curve: Curve, frame: _Frame) -> str:
    places = [(frame.across(x), frame.down(y)) for x, y in curve.points]
    mark = f' data-run="{escape(curve.run)}"' if curve.run else ""
    if len(places) == 1:
        ((x, y),) = places
        return f'<circle{mark} cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{curve.colour}"/>'
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline{mark} class="{curve.look}" stroke="{curve.colour}" points="{points}"/>'


def _key(curve: Curve) -> str:
    return (
        f'<span><svg viewBox="0 0 22 8"><path class="{curve.look}" stroke="{curve.colour}" '
        f'd="M0 4H22"/></svg>{escape(curve.name)}</span>'
    )


def _data(chart: Chart, curves: list[Curve], frame: _Frame) -> str:
    """Give what the script needs to find the values under the pointer."""
    plain = {
        "axis": chart.axis,
        "unit": chart.unit,
        "frame": [frame.left, frame.right, frame.low, frame.high],
        "box": [WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM, TOP],
        "curves": [
            {
                "name": curve.name,
                "colour": curve.colour,
                "run": curve.run,
                "points": [[_short(x), _short(y)] for x, y in curve.points],
            }
            for curve in curves
        ],
    }
    return msgspec.json.encode(plain).decode()


def _short(value: float) -> float:
    return float(f"{value:.6g}")
