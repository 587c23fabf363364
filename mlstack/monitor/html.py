"""The report as one HTML file: no script, no other file, light and dark, on paper too."""

import math
import re
from dataclasses import dataclass
from datetime import datetime
from html import escape
from importlib.resources import files as package_files
from pathlib import Path

import msgspec

from mlstack import files
from mlstack.monitor import drawing, gradual
from mlstack.monitor.drift import CONFIDENCE, PREDICTION, Comparison, changes_of
from mlstack.monitor.gradual import OVER_DAYS, Judged
from mlstack.monitor.pictures import Picture, Pictures
from mlstack.monitor.verdict import Verdict
from mlstack.monitor.windows import Window
from mlstack.plurals import figure, plural
from mlstack.records.report import Change, Course, Finding, Report

SINCE = re.compile(r"(?<=; since )\d{4}-\d\d-\d\dT[0-9:.]+Z")
SHOWN_CLASSES = 12
SHOWN_VALUES = 4
FIRST_COLUMNS = 8
SHOWN_COLUMNS = 100
FIRST_COURSES = 4


@dataclass(frozen=True)
class Content:
    """What the page shows."""

    verdict: Verdict
    window: Window
    pictures: Pictures
    created: datetime


def write(path: Path, content: Content) -> None:
    """Write the page, atomically."""
    files.write_text(path, render(content))


def render(content: Content) -> str:
    """Make the page."""
    report = content.verdict.report
    style = package_files("mlstack.monitor").joinpath("report.css").read_text("utf-8")
    word = "Alert" if report.alert else "OK" if _is_judged(report) else "Not judged"
    sections = [
        _head(report, content.created),
        _verdict(report),
        _tiles(report),
        _columns(content.verdict.comparisons, content.window),
        _days(content.verdict.over_days),
        _classes(report.changes),
        _pictures(
            "Least confident", "A label for one of these teaches most.", content.pictures.unsure
        ),
        _pictures(
            "Most unusual", "Furthest from the reference's inputs.", content.pictures.unusual
        ),
        _numbers(report),
        _foot(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{word}: {escape(report.model)} version {report.version}</title>"
        f"<style>{style}</style></head><body><main>{''.join(sections)}</main>"
        f"{_embedded(content)}</body></html>\n"
    )


def _head(report: Report, created: datetime) -> str:
    return (
        f'<div class="top"><h1>{escape(report.model)} '
        f'<span class="soft">version {report.version}</span></h1>'
        f'<span class="soft">{_moment(created.isoformat())}</span></div>'
    )


def _verdict(report: Report) -> str:
    is_judged = _is_judged(report)
    kind = "verdict alert" if report.alert else "verdict" if is_judged else "verdict none"
    summary = SINCE.sub(lambda found: _moment(found[0]), report.summary)
    _, _, said = summary.partition(": ")
    first, *rest = said.split("; ")
    if report.alert_file:
        rest.append(f"the predictions to label are named in `{report.alert_file}`")
    rest += [f"note: {line}" for line in report.warnings]
    items = "".join(f"<li>{_code(_capital(line))}</li>" for line in rest)
    mark = _mark(report.alert if is_judged else None)
    return (
        f'<section class="{kind}">{mark}<strong>{_code(_capital(first))}</strong>'
        f"<ul>{items}</ul></section>"
    )


def _moment(iso: str) -> str:
    """Write a moment as the head of the page does."""
    return f"{datetime.fromisoformat(iso):%d %B %Y, %H:%M} UTC"


def _date(iso: str) -> str:
    return f"{datetime.fromisoformat(iso):%d %B %Y}".lstrip("0")


def _tiles(report: Report) -> str:
    return f'<div class="tiles">{_service(report)}{_data(report)}{_model(report)}</div>'


def _service(report: Report) -> str:
    one = report.service
    if one is None or not one.requests:
        return _tile("Service", None, "-", "no request in the window", [])
    rows = [
        ("Failed (5xx)", f"{one.failed}"),
        ("Refused (4xx)", f"{one.refused}"),
        ("Latency p50", _ms(one.p50_ms)),
        ("p95", _ms(one.p95_ms)),
        ("p99", _ms(one.p99_ms)),
        ("Requests a minute", f"{one.per_minute:,.0f}"),
    ]
    rate = one.failed / one.requests
    what = f"of {one.requests:,} requests failed"
    return _tile("Service", _alarms(report, "service"), f"{rate:.1%}", what, rows)


def _data(report: Report) -> str:
    found = [one for one in report.findings if one.area == "input"]
    moved = len({one.subject.removesuffix(OVER_DAYS) for one in found if one.alert})
    found = [one for one in found if not one.subject.endswith(OVER_DAYS)]
    if not found:
        return _tile("Data", None, "-", "no input column was compared", [])
    worst = max(found, key=lambda one: one.effect / one.limit)
    rows = [
        ("Columns compared", f"{len(found)}"),
        ("Most changed", escape(worst.subject)),
        (f"Its effect ({worst.statistic})", f"{worst.effect:.2f}"),
        ("Limit", f"{worst.limit:g}"),
        ("Predictions looked at", f"{report.rows:,}"),
    ]
    what = "input column changed" if moved == 1 else "input columns changed"
    return _tile("Data", moved > 0, f"{moved}", what, rows)


def _model(report: Report) -> str:
    alarm = _alarms(report, "prediction", "quality")
    rows = []
    if report.reference_accuracy is not None:
        rows.append(("On the reference", f"{report.reference_accuracy:.1%}"))
    drift = next((one for one in report.findings if one.subject == PREDICTION), None)
    if drift is not None:
        rows.append(("Predictions moved", f"{drift.effect:.1%}"))
        rows.append(("Limit", f"{drift.limit:.1%}"))
    rows += [
        (f"Confidence moved ({one.statistic})", f"{one.effect:.2f} of {one.limit:g}")
        for one in report.findings
        if one.subject == CONFIDENCE and one.alert
    ]
    if report.quality is not None:
        one = report.quality
        rows.append(("95 % interval", f"{one.low:.1%} to {one.high:.1%}"))
        rows.append(("Labels", f"{one.labels:,} ({one.coverage:.0%} of the window)"))
        return _tile("Model", alarm, f"{one.accuracy:.1%}", "measured accuracy", rows)
    if report.estimated_accuracy is not None:
        what = "estimated accuracy, blind to concept drift"
        return _tile("Model", alarm, f"{report.estimated_accuracy:.1%}", what, rows)
    if drift is None:
        return _tile("Model", None, "-", "too few predictions to compare", rows)
    return _tile("Model", alarm, f"{drift.effect:.1%}", "of the predictions moved", rows)


def _tile(title: str, alert: bool | None, big: str, what: str, rows: list[tuple[str, str]]) -> str:
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    return (
        f'<section class="card tile"><header>{title}{_mark(alert)}</header>'
        f'<p class="big">{big}</p><p class="what">{what}</p><dl>{listed}</dl></section>'
    )


def _columns(comparisons: list[Comparison], window: Window) -> str:
    shown = [one for one in comparisons if one.edges or _has_values(one)]
    if not shown:
        return ""
    first = max(FIRST_COLUMNS, sum(one.is_alarming for one in shown))
    rows = [_column(one, _drawn(one, window)) for one in shown[:SHOWN_COLUMNS]]
    return (
        '<h2>Columns</h2><p class="lead">The most changed first. The effect runs from 0, the same '
        "as the reference, to 1, nothing in common. A column alarms when its effect is above the "
        "limit (the upright mark) and it cannot be chance (adjusted p below 0.01)."
        f'</p>{_legend()}<div class="card columns">{"".join(rows[:first])}</div>'
        f"{_rest(rows[first:], len(shown))}"
    )


def _rest(rows: list[str], total: int) -> str:
    """Fold the columns that nobody need look at first."""
    if not rows:
        return ""
    more = f"{len(rows)} more {plural(len(rows), 'column')} that changed less"
    left = total - SHOWN_COLUMNS
    hidden = f'<p class="soft">and {left} more, among all numbers below</p>' if left > 0 else ""
    return (
        f'<details class="rest"><summary>{more}</summary>'
        f'<div class="card columns">{"".join(rows)}</div>{hidden}</details>'
    )


def _has_values(one: Comparison) -> bool:
    """Tell whether a column is drawn by its values: of text, or of what is missing."""
    return one.area == "input" and bool(one.labels) and (one.is_alarming or not one.is_of_missing)


def _drawn(one: Comparison, window: Window) -> str:
    return _values(one) if one.labels else drawing.overlay(one, window.numeric[one.column])


def _values(one: Comparison) -> str:
    """Draw the values of a text column, the most changed first."""
    changes = [it for it in changes_of(one) if it.reference or it.current][:SHOWN_VALUES]
    most = max(max(it.reference, it.current) for it in changes)
    rows = "".join(_class(it, most) for it in changes)
    return f'<div class="classes">{rows}</div>'


def _column(one: Comparison, drawn: str) -> str:
    missing = f", {one.missing:.1%} missing" if one.missing else ""
    return (
        f'<div class="column"><div><div class="name"><b>{escape(one.column)}</b>'
        f'{_mark(one.is_alarming)}</div><div class="soft">{_code(one.detail)}{missing}</div></div>'
        f"<div>{drawn}</div>"
        f"<div>{drawing.gauge(one.effect, one.limit, alert=one.is_alarming)}"
        f'<div class="soft">{one.statistic} {one.effect:.2f}, limit {one.limit:g}, '
        f"p {_p(one.p_value)}</div></div></div>"
    )


def _days(judged: Judged | None) -> str:
    if judged is None or not judged.dates:
        return ""
    found = judged.found
    shown = [one for one in found.courses if one.alert]
    shown += [one for one in found.courses if not one.alert][: max(0, FIRST_COURSES - len(shown))]
    rows = "".join(_course(one, judged) for one in shown[:SHOWN_COLUMNS])
    rest = len(found.courses) - len(shown)
    more = f'<p class="soft">and {rest} more, of which less speaks for a change</p>' if rest else ""
    return (
        '<h2>Days</h2><p class="lead">How far each whole day lay from the first '
        f"{found.calm}, the calm ones; the band is how far those lie from each other. What speaks "
        "for a change is added up over the columns and the days, so a small one that lasts alarms, "
        f"and days that just differ do so once in {found.limit:g} at most. Now it stands at "
        f"{figure(found.evidence)} of {found.limit:g}. After a change that is as it should be, "
        "<code>monitor.drift.since: DATE</code> begins anew.</p>"
        f'<div class="card columns">{rows}</div>{more}'
    )


def _course(one: Course, judged: Judged) -> str:
    since = f", since {_date(one.since)}" if one.alert and one.since else ""
    spoken, limit = math.log1p(one.evidence), math.log1p(judged.found.limit)
    return (
        f'<div class="column"><div><div class="name"><b>{escape(one.column)}</b>'
        f'{_mark(one.alert)}</div><div class="soft">{one.statistic} {one.distance:.2f} on the last '
        f"day, calm days up to {one.usual:.2f}{since}</div></div>"
        f"<div>{drawing.course(judged, one)}</div>"
        f"<div>{drawing.gauge(spoken, limit, alert=one.alert)}"
        f'<div class="soft">evidence {figure(one.evidence)}</div></div></div>'
    )


def _classes(changes: list[Change]) -> str:
    if not changes:
        return ""
    shown = changes[:SHOWN_CLASSES]
    most = max(max(one.reference, one.current) for one in shown)
    rows = "".join(_class(one, most) for one in shown)
    rest = len(changes) - len(shown)
    more = f'<p class="soft">and {rest} more classes that changed less</p>' if rest else ""
    return (
        '<h2>Predictions</h2><p class="lead">Share of each predicted class, the most changed '
        f'first.</p>{_legend()}<div class="card"><div class="classes">{rows}</div>{more}</div>'
    )


def _class(one: Change, most: float) -> str:
    points = 100 * (one.current - one.reference)
    return (
        f'<div><span class="value">{escape(one.value)}</span>'
        f"{drawing.pair(one.reference, one.current, most)}"
        f'<span class="shift soft">{one.reference:.1%} → {one.current:.1%}</span>'
        f'<span class="shift">{points:+.1f}</span></div>'
    )


def _pictures(title: str, lead: str, pictures: list[Picture]) -> str:
    if not pictures:
        return ""
    figures = "".join(
        f'<figure title="{escape(one.prediction_id)}"><img alt="" '
        f'class="{"hard" if one.is_small else ""}" src="{one.uri}"><figcaption>'
        f'<b>{escape(one.prediction)}</b><span class="soft">{one.confidence:.0%}</span>'
        "</figcaption></figure>"
        for one in pictures
    )
    return f'<h2>{title}</h2><p class="lead">{lead}</p><div class="pictures">{figures}</div>'


def _numbers(report: Report) -> str:
    rows = "".join(_number(one) for one in report.findings)
    return (
        "<details><summary>All numbers</summary><div class=scroll><table><thead><tr><th>Checked"
        '<th>Statistic<th class="number">Effect<th class="number">Limit<th class="number">p'
        f"<th>Detail<th></tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _number(one: Finding) -> str:
    p_value = "" if one.p_value is None else _p(one.p_value)
    return (
        f'<tr><td>{escape(one.subject)}<td>{one.statistic}<td class="number">{one.effect:.3g}'
        f'<td class="number">{one.limit:g}<td class="number">{p_value}<td>{_code(one.detail)}'
        f"<td>{_mark(one.alert)}</tr>"
    )


def _foot(report: Report) -> str:
    window = (
        f"{report.rows:,} predictions, {_moment(report.since)} to {_moment(report.until)}. "
        if report.rows
        else ""
    )
    return (
        f"<footer>{window}The p-values of the last predictions take rows as independent"
        f"{_calibrated(report)}. The numbers are in this file as JSON, and beside it.</footer>"
    )


def _calibrated(report: Report) -> str:
    if report.gradual is None:
        return ""
    if report.gradual.calm:
        return "; the days are judged by how much your own days differ"
    return f"; {gradual.said(report.gradual)}"


def _embedded(content: Content) -> str:
    body = {
        "report": msgspec.to_builtins(content.verdict.report),
        "columns": [
            {
                "column": one.column,
                "edges": list(one.edges),
                "labels": list(one.labels),
                "reference": one.reference.tolist(),
                "current": one.current.tolist(),
            }
            for one in content.verdict.comparisons
        ],
    }
    # A class named `</script>` must not end the block.
    encoded = msgspec.json.encode(body).decode().replace("<", "\\u003c")
    return f'<script type="application/json" id="report">{encoded}</script>'


def _legend() -> str:
    return (
        '<div class="legend"><span><i></i>reference</span><span><i class="new"></i>now</span></div>'
    )


def _mark(alert: bool | None) -> str:
    if alert is None:
        return '<span class="mark none">NOT JUDGED</span>'
    return '<span class="mark alert">ALERT</span>' if alert else '<span class="mark">OK</span>'


def _is_judged(report: Report) -> bool:
    """Tell whether there was enough to say of the model that it is well."""
    return report.alert or any(one.area in ("input", "prediction") for one in report.findings)


def _alarms(report: Report, *areas: str) -> bool:
    return any(one.alert for one in report.findings if one.area in areas)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _code(text: str) -> str:
    """Escape a sentence and set what stands between backticks as code."""
    pieces = escape(text).replace("-&gt;", "→").split("`")
    return "".join(f"<code>{p}</code>" if place % 2 else p for place, p in enumerate(pieces))


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _p(value: float) -> str:
    return "&lt; 0.0001" if value < 1e-4 else f"{value:.2g}"
