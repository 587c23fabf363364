"""A prediction id: a UUID of version 7, with `-ROW` behind it when a request had several rows.

Its first 48 bits are the milliseconds at which the request began, so ids sort by time and lead to
the hour of the log that holds them.
"""

import re
from datetime import UTC, datetime

ID = re.compile(r"([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})(-\d{1,7})?")


def is_one(text: str) -> bool:
    """Tell whether a text is such an id."""
    return ID.fullmatch(text) is not None


def moment(prediction: str) -> datetime:
    """Give when the request began."""
    return datetime.fromtimestamp(int(prediction[:8] + prediction[9:13], 16) / 1000, UTC)


def rows_of(prediction: str) -> tuple[str, ...]:
    """Give the ids under which the log may have it: as it is, or as the first of several rows."""
    fitting = ID.fullmatch(prediction)
    assert fitting is not None  # only ids are looked for
    return (prediction,) if fitting[2] else (prediction, f"{prediction}-0")
