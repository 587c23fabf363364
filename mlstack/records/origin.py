"""Where a project comes from: `.mlstack/origin.json`, written once by `init`."""

from mlstack.records.base import Record

ORIGIN = "origin.json"


class Origin(Record, frozen=True, kw_only=True, tag="project.origin"):
    """The template a project was made from, and by which mlstack."""

    template: str
    mlstack: str  # version that wrote it
    created: str  # UTC, ISO 8601
    data: str  # folder given by --data; empty for the template's own data
