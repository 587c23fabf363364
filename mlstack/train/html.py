"""Runs as one self-contained HTML page, curves drawn as inline SVG."""

from dataclasses import dataclass
from html import escape

from mlstack.train.results import RunsCompared, RunShown

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 460, 240, 52, 28, 12
COLOURS = ("#2f6fde", "#d9541e", "#1f9d63", "#9a3fc4", "#b8860b", "#1aa3b8", "#c2255c", "#667085")
STYLE = """
:root { color-scheme: light dark; --ink: #1d2430; --faint: #667085; --line: #d5dae3; --back: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --faint: #98a2b3; --line: #3a4250; --back: #14181f } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.05rem; margin-top: 2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; max-width: 100% }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; vertical-align: top }
th { font-weight: 600 } .faint { color: var(--faint) }
.charts { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0 }
figcaption { font-weight: 600 } svg { max-width: 100%; height: auto }
svg text { fill: var(--faint); font-size: 11px }
"""


@dataclass(frozen=True)
class Curve:
    """One line of a chart."""

    name: str
    points: list[tuple[float, float]]
    colour: str
    dashed: bool = False


def one(run: RunShown) -> str:
    """Draw the page of one run."""
    spec, summary = run.spec, run.summary
    facts = [
        ("state", summary.state + (f": {summary.problem}" if summary.problem else "")),
        ("created", spec.created),
        ("epochs", f"{summary.epoch} of {summary.epochs}"),
        ("data", f"{spec.dataset.source} {spec.dataset.md5}" + _mark(spec.dataset.dirty)),
        ("code", f"{spec.code.commit or 'no commit'}" + _mark(spec.code.dirty)),
        ("seed", str(spec.seed)),
        ("ranks", f"{spec.ranks}, GPUs: {', '.join(map(str, spec.gpus)) or 'none'}"),
        ("command", " ".join(spec.command)),
    ]
    metrics = [(name, f"{value:.4g}") for name, value in summary.metrics.items()]
    versions = sorted(spec.environment.packages.items())
    return _page(
        f"run {spec.id}",
        _table(facts)
        + _charts([run])
        + f"<h2>Metrics</h2>{_table(metrics)}"
        + f"<h2>Libraries</h2>{_table(versions)}",
    )


def several(found: RunsCompared) -> str:
    """Draw the page that compares runs."""
    names = [run.spec.id for run in found.runs]
    head = ["", *names]
    metrics = [[d.name, *(v or "" for v in d.values)] for d in found.metrics]
    settings = [[d.name, *(v or "" for v in d.values)] for d in found.settings]
    notes = [
        (name, f"{data}; {code}")
        for name, data, code in zip(names[1:], found.data, found.code, strict=True)
    ]
    return _page(
        " / ".join(names),
        _charts(found.runs)
        + f"<h2>Metrics</h2>{_grid(head, metrics)}"
        + f"<h2>Settings that differ</h2>{_grid(head, settings)}"
        + f"<h2>Data and code, against {escape(names[0])}</h2>{_table(notes)}",
    )


def _page(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def _table(rows: list[tuple[str, str]]) -> str:
    cells = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{''.join(cells)}</table>" if rows else '<p class="faint">none</p>'


def _grid(head: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return '<p class="faint">none</p>'
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{top}</tr>{body}</table>"


def _charts(runs: list[RunShown]) -> str:
    """Draw a chart for each measure: train, val and test of one run, or one part of several."""
    names = list(dict.fromkeys(n for run in runs for e in run.epochs for n in sorted(e.metrics)))
    groups: dict[str, list[Curve]] = {}
    for number, run in enumerate(runs):
        for position, name in enumerate(names):
            points = [(float(e.epoch), e.metrics[name]) for e in run.epochs if name in e.metrics]
            measure = name.rpartition("/")[2]
            colour = COLOURS[(number if len(runs) > 1 else position) % len(COLOURS)]
            label = f"{run.spec.id[-4:]} {name}" if len(runs) > 1 else name
            if points:
                curve = Curve(label, points, colour, dashed=name.startswith("train"))
                groups.setdefault(measure, []).append(curve)
    drawn = "".join(_chart(measure, curves) for measure, curves in sorted(groups.items()))
    return f'<h2>Curves</h2><div class="charts">{drawn}</div>' if drawn else ""


def _chart(title: str, curves: list[Curve]) -> str:
    xs = [x for curve in curves for x, _ in curve.points]
    ys = [y for curve in curves for _, y in curve.points if y == y and abs(y) != float("inf")]
    if not ys:
        return ""
    low, high = min(ys), max(ys)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    first, last = min(xs), max(max(xs), min(xs) + 1)

    def place(x: float, y: float) -> str:
        across = LEFT + (x - first) / (last - first) * (WIDTH - LEFT - 10)
        down = TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f},{down:.1f}"

    lines = "".join(
        f'<polyline fill="none" stroke="{c.colour}" stroke-width="2" '
        f'stroke-dasharray="{"5 4" if c.dashed else "none"}" '
        f'points="{" ".join(place(x, y) for x, y in c.points if y == y)}">'
        f"<title>{escape(c.name)}</title></polyline>"
        for c in curves
    )
    legend = " ".join(
        f'<span style="color:{c.colour}">{"┄" if c.dashed else "━"} {escape(c.name)}</span>'
        for c in curves
    )
    ticks = "".join(
        f'<text x="{LEFT - 6}" y="{TOP + share * (HEIGHT - TOP - BOTTOM) + 4:.0f}" '
        f'text-anchor="end">{high - share * (high - low):.3g}</text>'
        for share in (0, 0.5, 1)
    )
    base = HEIGHT - BOTTOM
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">'
        f'<path d="M{LEFT} {TOP}V{base}H{WIDTH - 10}" fill="none" stroke="var(--line)"/>'
        f'{ticks}<text x="{LEFT}" y="{HEIGHT - 8}">epoch {first:g}</text>'
        f'<text x="{WIDTH - 10}" y="{HEIGHT - 8}" text-anchor="end">{last:g}</text>'
        f"{lines}</svg><div>{legend}</div></figure>"
    )


def _mark(dirty: bool) -> str:
    return " (with changes)" if dirty else ""
