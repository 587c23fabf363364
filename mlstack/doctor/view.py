"""The checks as lines: what is well is short, what is not says what to type."""

from collections import Counter

from rich.text import Text

from mlstack.doctor.api import Examined
from mlstack.doctor.check import Check, Status
from mlstack.records.base import Record
from mlstack.ui import Bar

NAME_WIDTH = 20
STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.FAIL: "bold red"}
WORDS = {Status.OK: "ok  ", Status.WARNING: "warn", Status.FAIL: "FAIL"}


def draw(record: Record) -> Text | Bar | None:
    """Draw the progress and the whole examination."""
    match record:
        case Check(name=name):
            return Bar(f"checked {name}", 0)
        case Examined(checks=checks):
            return Text("\n").join([*(_line(check) for check in checks), _summary(checks)])
    return None


def _line(check: Check) -> Text:
    line = Text()
    line.append(WORDS[check.status], STYLES[check.status])
    line.append(f"  {check.name:<{NAME_WIDTH}}  {check.detail}")
    if check.fix:
        line.append(f"\n      fix: {check.fix}")
    return line


def _summary(checks: list[Check]) -> Text:
    counts = Counter(check.status for check in checks)
    words = [f"{counts[Status.OK]} ok"]
    if counts[Status.WARNING]:
        words.append(f"{counts[Status.WARNING]} to know of")
    if counts[Status.FAIL]:
        words.append(f"{counts[Status.FAIL]} failed: this machine cannot yet")
    return Text(", ".join(words))
