"""Which parts of the request log hold some hours: a log of weeks has tens of thousands of them."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from mlstack.records import prediction_id

HOUR_US = 3_600_000_000


def since(parts: list[Path], since_us: int) -> list[Path]:
    """Leave out the parts of hours that were over before a time."""
    first = since_us // HOUR_US - 1
    return [part for part in parts if _hour(part) >= first]


def at(parts: list[Path], times_us: Iterable[int]) -> list[Path]:
    """Give the parts of the hours of some rows."""
    return _of(parts, {int(time_us) // HOUR_US for time_us in times_us})


def of_ids(parts: list[Path], ids: Iterable[str]) -> list[Path]:
    """Give the parts that may hold some predictions, whose ids say when they were asked."""
    found: set[int] = set()
    for name in ids:
        if not prediction_id.is_one(name):
            return parts  # somebody else's log
        asked = int(prediction_id.moment(name).timestamp()) // 3600
        found |= {asked - 1, asked, asked + 1}  # it is logged when it was answered
    return _of(parts, found)


def _of(parts: list[Path], hours: set[int]) -> list[Path]:
    return [part for part in parts if _hour(part) in hours]


def _hour(part: Path) -> int:
    """Give the hour since 1970 that the folders of a part name."""
    hour, date = part.parent.name.removeprefix("hour="), part.parent.parent.name
    moment = datetime.fromisoformat(f"{date.removeprefix('date=')}T{hour}:00+00:00")
    return int(moment.timestamp()) // 3600
