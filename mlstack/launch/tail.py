"""What comes in while a run is going: new events, and the heartbeats of its ranks."""

import os
import time
from pathlib import Path

from mlstack.records.run import EVENTS, RunEvent, decode_events


class Tail:
    """The events that are appended from now on.

    Who starts the ranks takes away a line that a crash cut off; who only looks on, from `offset`
    bytes, changes nothing.
    """

    def __init__(self, run_folder: Path, offset: int | None = None) -> None:
        self._path = run_folder / EVENTS
        self._offset = _drop_half_line(self._path) if offset is None else offset
        self.last: RunEvent | None = None

    def new(self) -> list[RunEvent]:
        """Give the whole lines that came in since the last call."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                content = stream.read()
        except FileNotFoundError:
            return []
        self._offset += content.rfind(b"\n") + 1
        events = list(decode_events(content, where=str(self._path)))
        self.last = events[-1] if events else self.last
        return events


class Pulse:
    """When each rank last touched its heartbeat file, by the clock that is never set."""

    def __init__(self, run_folder: Path, ranks: int) -> None:
        self._files = [run_folder / f"heartbeat-{number}" for number in range(ranks)]
        for file in self._files:
            file.unlink(missing_ok=True)
        self._seen: list[int | None] = [None] * ranks
        self._since = [time.monotonic()] * ranks

    def silent(
        self, codes: list[int | None], start_s: float, hang_s: float
    ) -> tuple[int, float] | None:
        """Give the rank that has been silent the longest, if too long, and for how many seconds.

        Args:
            codes: exit code of each rank; only those that run (None) are listened to.
            start_s: how long the first heartbeat may take.
            hang_s: how long each further one may take.
        """
        now = time.monotonic()
        for number, file in enumerate(self._files):
            beat = _modified(file)
            if beat != self._seen[number]:
                self._seen[number], self._since[number] = beat, now
        late = [
            (now - self._since[number], number)
            for number, code in enumerate(codes)
            if code is None
            and now - self._since[number] > (hang_s if self._seen[number] else start_s)
        ]
        return (max(late)[1], max(late)[0]) if late else None


def _modified(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _drop_half_line(path: Path) -> int:
    """Cut off what follows the last line end; give the size that is left."""
    if not path.is_file():
        return 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    return whole
