"""One window judged: findings, the sentence that says what changed, and since when."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec
import numpy as np

from mlstack.config.schema import Monitor
from mlstack.monitor import drift, gradual, quality, service
from mlstack.monitor.drift import Comparison
from mlstack.monitor.gradual import OVER_DAYS, Judged
from mlstack.monitor.target import Target
from mlstack.monitor.windows import Labelled, Window
from mlstack.records.report import Finding, Report

TO_LABEL = 20
SERVICE = (service.ERRORS, service.LATENCY)


@dataclass(frozen=True)
class Verdict:
    """A report, and the histograms it was made from."""

    report: Report
    comparisons: list[Comparison]
    since_us: int  # when the worst column changed, or the window's first row
    over_days: Judged | None = None

    @property
    def columns(self) -> list[str]:
        """What is alarming."""
        return [one.subject for one in self.report.findings if one.alert]

    def is_judged(self, subject: str, least: int) -> bool:
        """Tell whether there was enough to say of `subject` that it is well."""
        report = self.report
        if subject.endswith(OVER_DAYS):
            return report.gradual is not None and report.gradual.calm > 0
        if subject in SERVICE:
            return report.service is not None and report.service.requests >= least
        if subject == quality.SUBJECT:
            return report.quality is not None and report.quality.labels >= least
        return report.rows >= least


def judge(
    target: Target,
    window: Window,
    labelled: Labelled | None,
    over_days: Judged | None,
    limits: Monitor,
) -> Verdict:
    """Judge one window of predictions, and the days before.

    Below `monitor.min_window` predictions nothing is said about drift; the service is judged by
    its own number of requests.
    """
    enough = window.rows >= limits.min_window
    compared = drift.compare(target.reference, window, limits.drift) if enough else []
    found = [*service.judge(window.service, limits.service, limits.min_window)]
    found += [_finding(one) for one in compared]
    measured = quality.measure(labelled, window) if labelled else None
    if labelled and measured:
        wanted = quality.expected(target.reference, labelled, window)
        judged = quality.judge(measured, wanted, target.reference.rows, limits.min_window)
        found += [judged] if judged else []
    if over_days:
        found += gradual.findings(over_days.found, limits.drift.gradual)
    report = Report(
        model=target.model,
        version=target.version,
        since=_utc(window.times_us[0]) if window.rows else "",
        until=_utc(window.times_us[-1]) if window.rows else "",
        rows=window.rows,
        alert=any(one.alert for one in found),
        summary="",
        findings=found,
        estimated_accuracy=quality.estimate(target.reference, window) if enough else None,
        reference_accuracy=target.reference.accuracy,
        service=window.service,
        quality=measured,
        changes=drift.class_changes(compared),
        warnings=_warnings(target, window) if window.rows else [],
        gradual=over_days.found if over_days else None,
    )
    return replace(_summed_up(report, compared, window, limits), over_days=over_days)


def warned(judged: Verdict, warning: str) -> Verdict:
    """Add a warning to what the report says."""
    warnings = [warning, *judged.report.warnings]
    return replace(judged, report=msgspec.structs.replace(judged.report, warnings=warnings))


def to_label(window: Window) -> list[str]:
    """Name the predictions of which a label would teach most: the least confident ones."""
    confidences = window.numeric.get(drift.CONFIDENCE)
    if confidences is None or not window.rows:
        return []
    order = np.argsort(np.nan_to_num(confidences, nan=0.0), kind="stable")[:TO_LABEL]
    return [window.ids[int(row)].as_py() for row in order]


def _summed_up(
    report: Report, compared: list[Comparison], window: Window, limits: Monitor
) -> Verdict:
    alarms = [one for one in report.findings if one.alert]
    worst = next((one for one in compared if one.is_alarming), None)
    since_us = int(window.times_us[0]) if window.rows else 0
    if worst is not None:
        since_us = drift.change_time_us(worst, window)
    if first_day := _first_day(report, worst):
        day_us = int(datetime.fromisoformat(f"{first_day}T00:00Z").timestamp() * 1e6)
        since_us = min(since_us, day_us) if worst else day_us
    name = f"{report.model} version {report.version}"
    if alarms:
        said = f"{name}: {_cause(alarms)}{_since(since_us)}{_harm(report)}"
    elif report.rows < limits.min_window:
        said = f"{name}: not enough predictions yet ({report.rows} of {limits.min_window})"
    else:
        said = f"{name}: the last {report.rows} predictions look like the reference{_harm(report)}"
    fields = {key: getattr(report, key) for key in report.__struct_fields__} | {"summary": said}
    return Verdict(Report(**fields), compared, since_us)


def _first_day(report: Report, worst: Comparison | None) -> str | None:
    """Give the day since when the worst column drifts; of all, where nothing else alarms."""
    drifting = [one for one in report.gradual.courses if one.alert] if report.gradual else []
    if worst is not None:
        return next((one.since for one in drifting if one.column == worst.column), None)
    if any(one.alert and not one.subject.endswith(OVER_DAYS) for one in report.findings):
        return None
    return drifting[0].since if drifting else None


def _cause(alarms: list[Finding]) -> str:
    # What the person feels first comes first: failures, then wrong answers, then changes.
    order = {"service": 0, "quality": 1, "input": 2, "prediction": 2}
    said = {one.subject + OVER_DAYS for one in alarms}
    alarms = [one for one in alarms if one.subject not in said]  # its last window says it already
    alarms.sort(key=lambda one: (order[one.area], -one.effect / one.limit))
    first, *others = alarms
    # Which class became more frequent says more about harm than the next input column.
    others.sort(key=lambda one: one.subject != drift.PREDICTION)
    more = f", and {len(others) - 1} more" if len(others) > 1 else ""
    second = f"; {_words(others[0])}" if others else ""
    return f"{_words(first)}{second}{more}"


def _words(one: Finding) -> str:
    size = f"{one.statistic} {one.effect:.2g}, limit {one.limit:g}"
    if one.subject.endswith(OVER_DAYS):
        name = one.subject.removesuffix(OVER_DAYS)
        known = f"input `{name}`" if one.area == "input" else f"the {name}"
        return f"{known} drifts for days, {one.statistic} {one.effect:.2g} now ({one.detail})"
    match one.area:
        case "service" if one.subject == "error_rate":
            return f"{one.effect:.1%} of the requests failed (limit {one.limit:.1%})"
        case "service":
            return f"p99 is {one.effect:.0f} ms (limit {one.limit:g} ms)"
        case "quality":
            return f"measured accuracy {one.detail}"
        case "prediction" if one.subject == drift.PREDICTION:
            return f"predictions changed, {one.detail} ({size})"
        case "prediction":
            return f"{one.subject} changed, {one.detail} ({size})"
        case _:
            return f"input `{one.subject}` changed, {one.detail} ({size})"


def _since(since_us: int) -> str:
    return f"; since {_utc(since_us)}" if since_us else ""


def _harm(report: Report) -> str:
    if report.estimated_accuracy is None or report.reference_accuracy is None:
        return ""
    return (
        f"; estimated accuracy {report.reference_accuracy:.1%} -> {report.estimated_accuracy:.1%}"
    )


def _finding(one: Comparison) -> Finding:
    return Finding(
        subject=one.column,
        area=one.area,
        alert=one.is_alarming,
        effect=one.effect,
        limit=one.limit,
        p_value=one.p_value,
        statistic=one.statistic,
        detail=one.detail,
    )


def _warnings(target: Target, window: Window) -> list[str]:
    absent = drift.absent_columns(target.reference, window)
    return [
        f"column `{name}` is in the reference and not in the request log; it was not compared"
        for name in absent
    ]


def _utc(time_us: int) -> str:
    return datetime.fromtimestamp(int(time_us) / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
