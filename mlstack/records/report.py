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


class Change(Record, frozen=True, kw_only=True, tag="monitor.change"):
    """The share of one predicted class, in the reference and now."""

    value: str
    reference: float
    current: float


class Service(Record, frozen=True, kw_only=True, tag="monitor.service"):
    """How the endpoint served the last requests; latencies are null without a request."""

    requests: int
    failed: int  # answered 5xx
    refused: int  # answered 4xx
    per_minute: float
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None


class Quality(Record, frozen=True, kw_only=True, tag="monitor.quality"):
    """Accuracy measured on late labels, with its 95 % interval (Wilson)."""

    labels: int
    correct: int
    accuracy: float
    low: float
    high: float
    coverage: float  # share of the window's predictions that have a label


class Course(Record, frozen=True, kw_only=True, tag="monitor.course"):
    """How far one column lies from its calm days, and how much speaks for a change."""

    column: str
    area: str  # input or prediction
    statistic: str
    alert: bool
    distance: float  # of the last day from the calm days
    usual: float  # the largest distance of a calm day from the others
    evidence: float
    since: str | None  # first of the days that speak for a change


class Gradual(Record, frozen=True, kw_only=True, tag="monitor.gradual"):
    """Drift over days: an alarm when the mean evidence of the columns is above the limit.

    Without a change that is once in `limit` days at most, on average.
    """

    days: int  # that had enough predictions
    calm: int  # of them, from the first on, with which the last is compared; 0: not judged yet
    alert: bool
    evidence: float
    limit: float
    courses: list[Course] = msgspec.field(default_factory=list)  # most evidence first


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
    service: Service | None = None
    quality: Quality | None = None
    changes: list[Change] = msgspec.field(default_factory=list)  # predicted classes, largest first
    warnings: list[str] = msgspec.field(default_factory=list)
    alert_file: str | None = None
    report_file: str | None = None
    gradual: Gradual | None = None  # null where `monitor.drift.gradual` is 1

    def headline(self) -> str:
        """Give `alert` or `ok`."""
        return "alert" if self.alert else "ok"

    def exit_code(self) -> int:
        """Give 5 on an alert."""
        return 5 if self.alert else 0


class Reported(Result, frozen=True, kw_only=True, tag="monitor.reported"):
    """Where a report was written, and its verdict; exit code 0, for the report was asked for."""

    report_file: str
    alert: bool
    summary: str
    alert_file: str | None = None
    warnings: list[str] = msgspec.field(default_factory=list)

    def headline(self) -> str:
        """Give the file."""
        return self.report_file


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


ONGOING = ".ongoing.json"  # a dot-file, so that every other file of the folder is an alert


class Ended(Record, frozen=True, kw_only=True, tag="monitor.ended"):
    """An alert that is over, and since when (UTC, ISO 8601)."""

    alert: Alert
    at: str
    untold: list[str] = msgspec.field(default_factory=list)  # webhooks that have not heard of it


class Ongoing(Record, frozen=True, kw_only=True, tag="monitor.ongoing"):
    """`.mlstack/alerts/.ongoing.json`: the alert of each `model/version` at its last check."""

    alerts: dict[str, Alert] = msgspec.field(default_factory=dict)
    ended: dict[str, Ended] = msgspec.field(default_factory=dict)  # the last one of each
    untold: dict[str, list[str]] = msgspec.field(default_factory=dict)  # who could not be told yet


class Probed(Result, frozen=True, kw_only=True, tag="monitor.probed"):
    """What the endpoint answered to `monitor probe`; exit code 5 when it is not well."""

    url: str
    attempts: int
    failures: dict[str, int]  # refused, timeout, not-ready, http-5xx, http-4xx, wrong, slow ...
    p50_ms: float | None = None
    max_ms: float | None = None
    last_problem: str = ""

    def headline(self) -> str:
        """Give `up` or `down`."""
        return "down" if self.exit_code() else "up"

    def exit_code(self) -> int:
        """Give 5 when the last attempt failed or an answer was wrong."""
        return 5 if self.last_problem else 0


class Rows(Result, frozen=True, kw_only=True, tag="monitor.rows"):
    """The answer to `monitor sql`."""

    columns: list[str]
    rows: list[list[str | int | float | bool | None]]
    truncated: bool = False
