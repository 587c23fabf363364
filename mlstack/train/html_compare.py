"""The page that compares runs: one colour a run, on every chart."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import escape

from mlstack.records.system import Used
from mlstack.train import chart, page
from mlstack.train.chart import Chart, Curve
from mlstack.train.curves import History, minutes
from mlstack.train.results import Difference, RunsCompared, Use

MANY = 4  # runs from which tables have a row for each run, not a column
FEW = 4  # settings that are named beside a run
LETTERS = 24  # of such a setting
BESIDE = ("track.mirror", "track.store")  # those make no other run
BETTER_LOW = ("loss", "error", "mae", "mse", "rmse", "ece")


def several(found: RunsCompared, pasts: list[History]) -> str:
    """Draw the page that compares runs."""
    names = [run.spec.id for run in found.runs]
    short = _short(names)
    compared = [
        ("against", short[0]),
        *((short[i], line) for i, line in enumerate(found.data, start=1)),
    ]
    codes = list(zip(short[1:], found.code, strict=True))
    curves = page.charts(_curves_of_all(short, pasts))
    return page.whole(
        f"{len(names)} runs",
        f'<h1>{len(names)} runs</h1><p class="soft">{escape(" ".join(names))}</p>'
        + page.wide(_runs(found, short))
        + page.section("Curves", curves and _note(pasts) + curves)
        + page.section("System use", page.charts(_use_of_all(short, pasts)))
        + page.section("Metrics", _differences(found.metrics, short, mark_best=True))
        + page.section("Settings that differ", _differences(found.settings, short))
        + page.section("Data", page.table(compared) + _classes(found, short))
        + page.section("Code", page.table([("against", short[0]), *codes])),
    )


def _curves_of_all(short: list[str], pasts: list[History]) -> Iterator[Chart]:
    """Give a chart for each measure with a colour for each run: train is dashed."""
    names = dict.fromkeys(n for past in pasts for e in past.epochs for n in e.metrics)
    measures = sorted({n.rpartition("/")[2] for n in names}, key=lambda n: (n != "loss", n))
    for measure in measures:
        lines = []
        for number, (run, past) in enumerate(zip(short, pasts, strict=True)):
            for name in (n for n in names if n.rpartition("/")[2] == measure):
                points = [
                    (float(e.step), e.metrics[name]) for e in past.epochs if name in e.metrics
                ]
                look = "dashed" if name.startswith("train") else "solid"
                lines.append(Curve(f"{run} {name}", points, chart.colour(number), look, run))
        yield Chart(measure, lines, legend=False)
    for name in dict.fromkeys(n for past in pasts for s in past.steps for n in s.metrics):
        within = [
            [(float(s.step), s.metrics[name]) for s in past.steps if name in s.metrics]
            for past in pasts
        ]
        yield _of_all(f"{name} within epochs", short, within)


def _use_of_all(short: list[str], pasts: list[History]) -> Iterator[Chart]:
    speeds = [[(float(s.step), s.examples_per_s) for s in past.speeds] for past in pasts]
    yield _of_all("examples a second", short, speeds, from_zero=True)
    waits = [
        [(float(s.step), s.loader_wait) for s in past.speeds if s.loader_wait is not None]
        for past in pasts
    ]
    yield _of_all("waiting for the loader", short, waits, unit="%", from_zero=True)
    for title, unit, value in _LOOKS:
        looks = [
            list(zip(minutes(past.used), map(value, past.used), strict=True)) for past in pasts
        ]
        yield replace(_of_all(title, short, looks, unit, from_zero=True), axis="minutes")


def _busy(used: Used) -> float:
    """Give the mean over the GPUs; no number without any, so that nothing is drawn."""
    return sum(gpu.busy for gpu in used.gpus) / len(used.gpus) if used.gpus else math.nan


_LOOKS: tuple[tuple[str, str, Callable[[Used], float]], ...] = (
    ("CPU cores of the ranks", "", lambda used: used.cpu_cores),
    ("memory of the ranks", "bytes", lambda used: float(used.memory_bytes)),
    ("GPUs busy, mean", "%", _busy),
)


def _of_all(
    title: str,
    short: list[str],
    points: list[list[tuple[float, float]]],
    unit: str = "",
    *,
    from_zero: bool = False,
) -> Chart:
    lines = [
        Curve(run, own, chart.colour(number), run=run)
        for number, (run, own) in enumerate(zip(short, points, strict=True))
    ]
    return Chart(title, lines, unit=unit, from_zero=from_zero, legend=False)


def _note(pasts: list[History]) -> str:
    has_train = any(n.startswith("train") for p in pasts for e in p.epochs for n in e.metrics)
    dashes = " Dashed is train." if has_train else ""
    return f'<p class="soft">One colour a run, as in the table above.{dashes}</p>'


def _runs(found: RunsCompared, short: list[str]) -> str:
    """Draw the table of the runs, which is the legend of every chart, too."""
    figures = [
        figure | _figures(run.use) for figure, run in zip(_told(found), found.runs, strict=True)
    ]
    there = [name for name in figures[0] if any(one[name] for one in figures)]
    head = ["run", "state", "epochs", "in the epochs", *there]
    rows = []
    for number, (name, run, figure) in enumerate(zip(short, found.runs, figures, strict=True)):
        summary = run.summary
        cells = [
            summary.state,
            page.epochs(summary),
            page.duration(run.use.seconds),
            *(figure[name] for name in there),
        ]
        rows.append(
            f'<tr data-run="{escape(name)}"><th title="{escape(run.spec.id)}"><label>'
            f"<input type=checkbox checked hidden> "
            f'<span class="swatch" style="background:{chart.colour(number)}"></span> '
            f"{escape(name)}</label></th>"
            + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            + "</tr>"
        )
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table><thead><tr>{top}</tr></thead>{''.join(rows)}</table>"


def _told(found: RunsCompared) -> list[dict[str, str]]:
    """Give of each run what it is known by: the metric it watches, the settings that differ."""
    watched = {str(run.spec.config.get("train", {}).get("monitor", "")) for run in found.runs}
    rows = [row for row in found.metrics if row.name in watched]
    rows += [row for row in found.settings if row.name not in BESIDE][:FEW]
    return [
        {row.name: _brief(row.values[number] or "") for row in rows}
        for number in range(len(found.runs))
    ]


def _brief(value: str) -> str:
    """Write a value for a narrow column; the whole one stands below."""
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value if len(value) <= LETTERS else f"{value[: LETTERS - 1]}…"


def _figures(use: Use) -> dict[str, str]:
    said = [
        ("examples/s", use.examples_per_s, "{:,.0f}".format),
        ("loader wait", use.loader_wait, "{:.1%}".format),
        ("CPU cores", use.cpu_cores, "{:.2f}".format),
        ("memory", use.memory_bytes, chart.size),
    ]
    figures = {name: "" if value is None else show(value) for name, value, show in said}
    return figures | {"GPUs busy": ", ".join(f"{gpu.busy:.0%}" for gpu in use.gpus)}


def _differences(rows: list[Difference], short: list[str], *, mark_best: bool = False) -> str:
    """Draw values side by side: runs are columns, or rows when there are many."""
    if not rows:
        return '<p class="soft">none</p>'
    cells = [_cells(row, mark_best=mark_best) for row in rows]
    names = [escape(row.name) for row in rows]
    heads = [escape(name) for name in short]
    if len(short) > MANY:
        cells, names, heads = [list(c) for c in zip(*cells, strict=True)], heads, names
    top = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(
        f"<tr><th>{name}</th>{''.join(line)}</tr>" for name, line in zip(names, cells, strict=True)
    )
    return page.wide(f"<table><thead><tr><th></th>{top}</tr></thead>{body}</table>")


def _cells(row: Difference, *, mark_best: bool) -> list[str]:
    values = [value for value in row.values if value is not None]
    best = ""
    if mark_best and len(set(values)) > 1:
        is_low = any(word in row.name.rpartition("/")[2] for word in BETTER_LOW)
        best = (min if is_low else max)(values, key=float)
    first = row.values[0]
    cells = []
    for value in row.values:
        differs = not mark_best and value != first
        kind = "best" if best and value == best else "differs" if differs else ""
        cells.append(f'<td class="{kind}">{"" if value is None else escape(value)}</td>')
    return cells


def _classes(found: RunsCompared, short: list[str]) -> str:
    """Draw how many examples of each class and part there are where the data differs."""
    tables = ""
    for name, change in zip(short[1:], found.changes, strict=True):
        counts = {**change.parts, **{f"class {n}": c for n, c in change.classes.items()}}
        rows = "".join(
            f"<tr><th>{escape(what)}</th><td>{before:,}</td><td>{after:,}</td>"
            f"<td>{after - before:+,}</td></tr>"
            for what, (before, after) in counts.items()
        )
        head = f"<th></th><th>{escape(short[0])}</th><th>{escape(name)}</th><th></th>"
        tables += f"<table><thead><tr>{head}</tr></thead>{rows}</table>" if rows else ""
    return f"<details open><summary>Examples</summary>{tables}</details>" if tables else ""


def _short(names: list[str]) -> list[str]:
    """Give the ends of the ids, as long as they tell the runs apart."""
    ends = [name[-4:] for name in names]
    return ends if len(set(ends)) == len(ends) else names
