"""Runs as one self-contained HTML page: curves as inline SVG, a small script for the pointer."""

import json
import math
from collections.abc import Iterator
from html import escape

from mlstack.records.run import RunSpec
from mlstack.records.system import Used
from mlstack.train import chart, page
from mlstack.train.chart import Chart, Curve
from mlstack.train.curves import History, minutes
from mlstack.train.flat import flat
from mlstack.train.results import RunShown, Use

PARTS = {"train": 0, "val": 1, "test": 2}  # part of the data -> its colour, on every chart
FEW_MINUTES = 3


def one(run: RunShown, past: History) -> str:
    """Draw the page of one run."""
    spec, summary = run.spec, run.summary
    problem = f'<p class="problem">{escape(summary.problem)}</p>' if summary.problem else ""
    versions = sorted(spec.environment.packages.items())
    settings = [(name, json.dumps(value)) for name, value in flat(spec.config).items()]
    head = (
        f'<h1>run {escape(spec.id)}<span class="state {summary.state}">{summary.state}</span></h1>'
        f'<p class="soft">{escape(" ".join(spec.command))}, {escape(spec.created)}</p>{problem}'
    )
    return page.whole(
        f"run {spec.id}",
        head
        + _tiles(_headline(run) + _system(run.use))
        + page.section("Curves", page.charts(_curves(past)))
        + page.section("Metrics", page.table(_metrics(run)))
        + page.section("System use", page.charts(_use_charts(past)))
        + page.section("Made from", page.table(_origin(spec) + _copies(run)))
        + page.folded("Settings", page.table(settings))
        + page.folded("Libraries", page.table([("python", spec.environment.python), *versions])),
    )


def _tiles(facts: list[tuple[str, str]]) -> str:
    tiles = (
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in facts
    )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _headline(run: RunShown) -> list[tuple[str, str]]:
    monitor = str(run.spec.config.get("train", {}).get("monitor", ""))
    best = next((epoch for epoch in reversed(run.epochs) if epoch.best), None)
    facts = []
    if best and monitor in best.metrics:
        facts.append((f"{monitor}, best in epoch {best.epoch}", f"{best.metrics[monitor]:.4f}"))
    tested = {n: v for n, v in run.summary.metrics.items() if n.startswith("test")}
    facts += [(name, f"{value:.4f}") for name, value in tested.items()]
    facts.append(("epochs", page.epochs(run.summary)))
    return [*facts, ("in the epochs", page.duration(run.use.seconds))]


def _system(use: Use) -> list[tuple[str, str]]:
    said = [
        ("examples a second", use.examples_per_s, "{:,.0f}".format),
        ("waiting for the loader", use.loader_wait, "{:.1%}".format),
        ("CPU cores, mean", use.cpu_cores, "{:.2f}".format),
        ("memory of the ranks, most", use.memory_bytes, chart.size),
        ("memory torch held on a GPU", use.torch_bytes, chart.size),
    ]
    facts = [(name, show(value)) for name, value, show in said if value is not None]
    return facts + [(f"GPU {gpu.index} busy, mean", f"{gpu.busy:.0%}") for gpu in use.gpus]


def _metrics(run: RunShown) -> list[tuple[str, str]]:
    best = next((epoch for epoch in reversed(run.epochs) if epoch.best), None)
    last = run.epochs[-1] if run.epochs else None
    rows = []
    for name in dict.fromkeys(
        [*(n for epoch in run.epochs for n in epoch.metrics), *run.summary.metrics]
    ):
        said = [f"{run.summary.metrics[name]:.4g}"] if name.startswith("test") else []
        for where, epoch in (("best epoch", best), ("last", last)):
            if epoch and name in epoch.metrics:
                said.append(f"{epoch.metrics[name]:.4g} ({where}, {epoch.epoch})")
        rows.append((name, ", ".join(dict.fromkeys(said))))
    return rows


def _origin(spec: RunSpec) -> list[tuple[str, str]]:
    split = ", ".join(f"{count:,} {part}" for part, count in spec.dataset.split.items())
    rows = [
        ("data", f"{spec.dataset.source} {spec.dataset.md5}{_mark(spec.dataset.dirty)}"),
        ("examples", split),
        ("code", f"{spec.code.commit or 'no commit'}{_mark(spec.code.dirty)}"),
        ("seed", str(spec.seed)),
        ("ranks", f"{spec.ranks}, GPUs: {', '.join(map(str, spec.gpus)) or 'none'}"),
        ("machine", f"{spec.environment.platform}, {spec.environment.cpu_count} cores"),
        ("graphics", ", ".join(spec.environment.gpus)),
        ("parent", spec.parent or ""),
        ("study", f"{spec.study} trial {spec.trial}" if spec.study else ""),
    ]
    return [(name, value) for name, value in rows if value]


def _copies(run: RunShown) -> list[tuple[str, str]]:
    return [(f"in {one.mirror}", one.problem or one.where) for one in run.mirrors]


def _curves(past: History) -> Iterator[Chart]:
    """Give a chart for each measure: within epochs, train, val and test."""
    groups: dict[str, list[Curve]] = {}
    for name in dict.fromkeys(n for step in past.steps for n in step.metrics):
        points = [(float(s.step), s.metrics[name]) for s in past.steps if name in s.metrics]
        groups[name] = [Curve(f"{name} within epochs", points, chart.COLOURS[0], "faint")]
    others = len(PARTS)
    for name in dict.fromkeys(n for epoch in past.epochs for n in epoch.metrics):
        part, _, measure = name.rpartition("/")
        number = PARTS.get(part)
        if number is None:
            number, others = others, others + 1
        points = [(float(e.step), e.metrics[name]) for e in past.epochs if name in e.metrics]
        groups.setdefault(measure, []).append(Curve(name, points, chart.colour(number)))
    for measure in sorted(groups, key=lambda name: (name != "loss", name)):
        yield Chart(measure, groups[measure])


def _use_charts(past: History) -> Iterator[Chart]:
    steps = [float(one.step) for one in past.speeds]
    speeds = [one.examples_per_s for one in past.speeds]
    waits = [(s.step, s.loader_wait) for s in past.speeds if s.loader_wait is not None]
    yield _plain("examples a second", list(zip(steps, speeds, strict=True)))
    yield _plain("waiting for the loader", [(float(x), y) for x, y in waits], unit="%")
    for title, name, unit in (
        ("CPU cores of the ranks", "cpu_cores", ""),
        ("memory of the ranks", "memory_bytes", "bytes"),
        ("memory left on the machine", "free_bytes", "bytes"),
    ):
        values = [float(getattr(one, name)) for one in past.used]
        yield _plain(title, _timed(past.used, values), axis=_time(past.used)[0], unit=unit)
    yield from _gpu_charts(past)


def _gpu_charts(past: History) -> Iterator[Chart]:
    axis, _ = _time(past.used)
    for title, name, unit in (("GPUs busy", "busy", "%"), ("GPU memory", "memory_bytes", "bytes")):
        lines = []
        for index in sorted({gpu.index for one in past.used for gpu in one.gpus}):
            values = [
                next((float(getattr(g, name)) for g in one.gpus if g.index == index), math.nan)
                for one in past.used
            ]
            lines.append(Curve(f"GPU {index}", _timed(past.used, values), chart.colour(index)))
        yield Chart(title, lines, axis=axis, unit=unit, from_zero=True)


def _time(used: list[Used]) -> tuple[str, list[float]]:
    """Give the axis of what is drawn over time: a short run counts in seconds."""
    at = minutes(used)
    if at and at[-1] >= FEW_MINUTES:
        return "minutes", at
    return "seconds", [x * 60 for x in at]


def _timed(used: list[Used], values: list[float]) -> list[tuple[float, float]]:
    return list(zip(_time(used)[1], values, strict=True))


def _plain(
    title: str, points: list[tuple[float, float]], axis: str = "step", unit: str = ""
) -> Chart:
    curve = Curve(title, points, chart.COLOURS[0])
    return Chart(title, [curve], axis=axis, unit=unit, from_zero=True, legend=False)


def _mark(dirty: bool) -> str:
    return " (with changes)" if dirty else ""
