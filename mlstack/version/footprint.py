"""What a run left in its events, read without decoding its steps: they are thousands."""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mlstack.records.run import EVENTS, EpochEnded, Finished, decode_events

TAIL_BYTES = 1 << 16


@dataclass(frozen=True)
class Footprint:
    """The last metrics of a run, and how many times it was started."""

    metrics: dict[str, float] = field(default_factory=dict)
    attempts: int | None = None


class _Attempt(msgspec.Struct):
    attempt: int = 1


def of_run(folder: Path) -> Footprint:
    """Read what a run left; a run without events left nothing.

    Raises:
        DataError: the end of its events is damaged.
    """
    path = folder / EVENTS
    if not path.is_file():
        return Footprint()
    content = path.read_bytes()
    return Footprint(metrics=_metrics(content, str(path)), attempts=_attempts(content))


def _metrics(content: bytes, where: str) -> dict[str, float]:
    """Take the metrics of the end, else those of the last epoch."""
    for size in (TAIL_BYTES, len(content)):
        start = max(0, len(content) - size)
        begin = content.find(b"\n", start) + 1 if start else 0
        lines = [line for line in content[begin:].splitlines(keepends=True) if _is_end(line)]
        events = list(decode_events(b"".join(lines), where=where))
        if events:
            last = events[-1]
            return last.metrics if isinstance(last, Finished | EpochEnded) else {}
    return {}


def _is_end(line: bytes) -> bool:
    return b'"run.finished"' in line[:40] or b'"run.epoch"' in line[:40]


def _attempts(content: bytes) -> int | None:
    place = content.rfind(b'{"kind":"run.started"')
    if place < 0:
        return None
    line = content[place:].partition(b"\n")
    return msgspec.json.decode(line[0], type=_Attempt).attempt if line[1] else None
