"""What comes in while a run is going: new events."""

import os
from pathlib import Path

from mlstack.errors import StepError
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
        """Give the whole lines that came in since the last call.

        Raises:
            StepError: somebody removed the run's folder, and a rank began another one.
        """
        try:
            with self._path.open("rb") as stream:
                if os.fstat(stream.fileno()).st_size < self._offset:
                    raise StepError(
                        f"`{self._path.parent}` was removed while the run was going on",
                        hint="train again: `mlstack train`",
                    )
                stream.seek(self._offset)
                content = stream.read()
        except FileNotFoundError:
            return []
        self._offset += content.rfind(b"\n") + 1
        events = list(decode_events(content, where=str(self._path)))
        self.last = events[-1] if events else self.last
        return events


def _drop_half_line(path: Path) -> int:
    """Cut off what follows the last line end; give the size that is left."""
    if not path.is_file():
        return 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    return whole
