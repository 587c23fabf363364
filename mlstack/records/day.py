"""`.mlstack/days/MODEL/VERSION/DATE.json`: what one day of the request log looked like."""

from mlstack.records.base import Record


class Day(Record, frozen=True, kw_only=True, tag="monitor.day"):
    """The columns of one day of one version, counted over the bins of its reference profile.

    A numeric column has the reference's bins, a category its values in the reference's order (the
    prediction one more, for all others), and `NAME missing` the values that are there and missing.
    It outlives the part of the log that it was counted from.
    """

    date: str  # UTC
    parts: str  # which parts of the log it was counted from, a hash of their names
    reference: str  # hash of the profile whose bins these are
    rows: int
    counts: dict[str, list[int]]
