"""Watching the served model, step by step."""

import os
import re
import secrets
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mlstack.config import Project, load, refuse_unbuilt
from mlstack.config.duration import DURATION, seconds
from mlstack.errors import ConfigError
from mlstack.launch.own_server import Door, door, pinned
from mlstack.monitor import alerts, days, gradual, html, pictures, target, verdict, windows
from mlstack.monitor.attempt import Attempt
from mlstack.monitor.target import Target
from mlstack.monitor.verdict import Verdict
from mlstack.monitor.windows import Selection, Window
from mlstack.records import keys, server
from mlstack.records.base import write
from mlstack.records.layout import Layout
from mlstack.records.report import Probed, Report, Reported, Rows
from mlstack.records.worker import WorkerProgress

MOST_ROWS = 1_000_000  # of `--since`: half a gigabyte of memory, and as sure as one can be
AHEAD_US = 300_000_000  # clocks of two machines may differ by so much
FROM_THE_FUTURE = (
    "the newest predictions are dated {until}, which is still to come: a clock was wrong, and "
    "until then what comes now is not among the last ones"
)
ONLY_THE_LAST = "of the predictions since then only the last {rows:,} were looked at"


@dataclass(frozen=True)
class Where:
    """The project that is watched."""

    config: Path
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """Which predictions are looked at; nothing given is the last `monitor.window` of them."""

    window: int | None = None
    since: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class _Seen:
    """Everything one look at the log gave."""

    project: Project
    layout: Layout
    target: Target
    window: Window
    verdict: Verdict


def check(where: Where, asked: Asked) -> Iterator[WorkerProgress | Report]:
    """Judge the last predictions; write an alert and tell it when something new is alarming.

    Raises:
        DataError: there is no package, none is live, or nothing was logged.
        ConfigError: `since` is no time.
    """
    seen = yield from _look(where, asked)
    yield _alarm(seen, seen.verdict).report


def report(where: Where, asked: Asked, out: Path | None) -> Iterator[WorkerProgress | Reported]:
    """Judge the last predictions and write the HTML report and its JSON beside it."""
    if out is not None and out.suffix != ".html":
        raise ConfigError(f"`--out {out}` does not end in .html", hint="the JSON lies beside it")
    seen = yield from _look(where, asked)
    now = datetime.now(UTC)
    page = out or seen.layout.reports / f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}.html"
    written = _short(page, seen.project.root)
    named = msgspec.structs.replace(seen.verdict.report, report_file=written)
    judged = _alarm(seen, replace(seen.verdict, report=named))
    shown = pictures.choose(seen.layout.requests, seen.target, seen.window)
    html.write(page, html.Content(judged, seen.window, shown, now))
    final = judged.report
    write(page.with_suffix(".json"), final)
    yield Reported(
        report_file=written,
        alert=final.alert,
        summary=final.summary,
        alert_file=final.alert_file,
        warnings=final.warnings,
    )


def status(where: Where) -> Iterator[WorkerProgress | Report]:
    """Judge the last predictions; tell nobody and open no alert."""
    seen = yield from _look(where, Asked())
    yield seen.verdict.report


def watch(where: Where) -> Iterator[WorkerProgress | Report]:
    """Judge the last predictions again whenever the next report is asked for."""
    while True:
        yield from status(where)


def probed(
    where: Where, url: str | None, *, count: int, interval_s: float
) -> Iterator[Attempt | Probed]:
    """Ask the endpoint for its health and for one golden prediction, `count` times.

    Without `url` it is the server of this project that runs here, else the one of the config.
    """
    from mlstack.monitor import probe  # noqa: PLC0415  httpx: 50 ms that no other look needs

    project = load(where.config, sets=where.sets)
    found = target.find(project, None)
    endpoint = _named(url) if url is not None else _endpoint(project)
    limit_ms = project.config.monitor.service.p99_ms
    pace = probe.Pace(count, interval_s, limit_ms)
    yield from probe.probe(endpoint, probe.golden_question(found), pace)


def _named(url: str) -> Door:
    """Give the door of an address that was typed.

    Raises:
        ConfigError: it is none; that is no reason to call an endpoint down.
    """
    if not re.match(r"https?://[^/\s]", url):
        shown = url if "://" not in url and url else "HOST:PORT"
        raise ConfigError(
            f"`--url {url}` is no address of a server", hint=f"type `--url http://{shown}`"
        )
    return Door(url.rstrip("/"), keys.own_headers(os.environ))


def _endpoint(project: Project) -> Door:
    """Give the door of this project's server: where one runs, else where one is to run."""
    if running := server.running(Layout(project.root).state):
        return door(running)
    settings = project.config.serve
    address = f"{settings.host}:{settings.port}"
    headers = keys.own_headers(os.environ)
    if settings.tls is None:
        return Door(f"http://{address}", headers)
    return Door(f"https://{address}", headers, pinned(project.root / settings.tls.cert))


def sql(where: Where, query: str) -> Rows:
    """Run one read-only query over the views `requests` and `feedback`."""
    layout = Layout(load(where.config, sets=where.sets).root)
    return windows.query(layout.requests, layout.feedback, query)


def parse_since(text: str, now: datetime) -> int:
    """Turn `90m`, `2h30m`, `1d` (ago) or an ISO 8601 time into microseconds since the epoch.

    Raises:
        ConfigError: it is neither.
    """
    if re.fullmatch(DURATION, text):
        return max(1, int((now.timestamp() - seconds(text)) * 1e6))
    try:
        given = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"`--since {text}` is no time",
            hint='type for example `--since 2h` or `--since "2026-01-31 14:00"`',
        ) from error
    try:
        moment = given if given.tzinfo else given.astimezone()
    except (OverflowError, ValueError):  # the year 1, or 9999, seen from another time zone
        moment = given.replace(tzinfo=UTC)
    return max(1, int(moment.timestamp() * 1e6))


def _look(where: Where, asked: Asked) -> Generator[WorkerProgress, None, _Seen]:
    project = load(where.config, sets=where.sets)
    refuse_unbuilt(project, "monitor")
    layout = Layout(project.root)
    found = target.find(project, asked.model)
    since_us = parse_since(asked.since, datetime.now(UTC)) if asked.since else 0
    rows = asked.window or (MOST_ROWS if since_us else project.config.monitor.window)
    selection = Selection(found.model, found.version, rows, since_us)
    window = windows.read(layout.requests, selection)
    window = window.without(project.config.serve.log.redact)  # written empty, which is no drift
    labelled = windows.labelled(layout.requests, layout.feedback, selection, window)
    over_days = yield from _over_days(project, layout, found)
    judged = verdict.judge(found, window, labelled, over_days, project.config.monitor)
    if window.rows and int(window.times_us[-1]) > time.time_ns() // 1000 + AHEAD_US:
        judged = verdict.warned(judged, FROM_THE_FUTURE.format(until=judged.report.until))
    if window.rows == rows == MOST_ROWS:
        judged = verdict.warned(judged, ONLY_THE_LAST.format(rows=rows))
    return _Seen(project, layout, found, window, judged)


def _over_days(
    project: Project, layout: Layout, found: Target
) -> Generator[WorkerProgress, None, gradual.Judged | None]:
    limits = project.config.monitor
    if limits.drift.gradual == 1:
        return None
    known = yield from days.known(layout, found, datetime.now(UTC))
    first = str(limits.drift.since or "")
    return gradual.judge(
        [day for day in known if day.date >= first],
        found.reference,
        fewest_rows=limits.min_window,
        least=limits.drift.gradual,
        hidden=project.config.serve.log.redact,
    )


def _retrain(project: Project, judged: Verdict) -> list[str]:
    """Say that a new model is wanted; it is trained by the person, once there are new labels."""
    when = project.config.monitor.retrain.when
    causes = {"drift": {"input", "prediction"}, "quality": {"quality"}}.get(when, set())
    if not any(one.alert and one.area in causes for one in judged.report.findings):
        return []
    return ["`monitor.retrain` asks for a new model: label the predictions, then `mlstack run`"]


def _short(path: Path, root: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def _alarm(seen: _Seen, judged: Verdict) -> Verdict:
    """Open, go on with or close the alert of this model; say in the report where it is."""
    folder = seen.layout.alerts
    is_quiet = not judged.report.alert and not alerts.is_open(folder, judged)
    if is_quiet and not alerts.is_end_untold(folder, judged, datetime.now(UTC)):
        return judged
    with alerts.held(folder):
        return _kept(seen, judged)


def _kept(seen: _Seen, judged: Verdict) -> Verdict:
    folder, settings = seen.layout.alerts, seen.project.config.monitor
    now = datetime.now(UTC)
    if not judged.report.alert:
        alerts.close(folder, judged, settings, now)
        problems = alerts.tell_end(folder, judged, settings, now)
        warnings = [*judged.report.warnings, *problems]
        return replace(judged, report=msgspec.structs.replace(judged.report, warnings=warnings))
    alert = alerts.ongoing(folder, judged, now)
    if alert is None:
        to_label = verdict.to_label(seen.window)
        alert = alerts.open_alert(folder, judged, to_label, settings.on_alert)
    problems = alerts.tell(folder, alert, settings, seen.project.root)
    named = msgspec.structs.replace(
        judged.report,
        alert_file=_short(alerts.path(folder, alert), seen.project.root),
        warnings=[*judged.report.warnings, *problems, *_retrain(seen.project, judged)],
    )
    return replace(judged, report=named)
