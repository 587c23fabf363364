"""What `monitor check` found: one finding a column or service figure, and the alert."""

import msgspec

from mlstack.records.base import Record, Result


class Finding(Record, frozen=True, kw_only=True, tag="monitor.finding"):
    """One thing that was looked at."""

    subject: str  # column, or a service figure such as error_rate
    area: str  # input, prediction, service or quality
    alert: bool
    effect: float
    limit: float
    p_value: float | None = None
    statistic: str = ""
    detail: str = ""


class Report(Result, frozen=True, kw_only=True, tag="monitor.report"):
    """The verdict over one window; exit code 5 when something is alarming."""

    model: str
    version: int
    since: str  # UTC, ISO 8601
    until: str
    rows: int
    alert: bool
    summary: str
    findings: list[Finding] = msgspec.field(default_factory=list)
    estimated_accuracy: float | None = None
    reference_accuracy: float | None = None
    alert_file: str | None = None
    report_file: str | None = None

    def headline(self) -> str:
        """Give `alert` or `ok`."""
        return "alert" if self.alert else "ok"

    def exit_code(self) -> int:
        """Give 5 on an alert."""
        return 5 if self.alert else 0


class Alert(Record, frozen=True, kw_only=True, tag="monitor.alert"):
    """`.mlstack/alerts/ID.json`: what, since when, which columns, which predictions to label."""

    id: str
    model: str
    version: int
    created: str
    since: str
    summary: str
    columns: list[str]
    prediction_ids: list[str]
    report: str | None = None
