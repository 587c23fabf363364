"""How far a run is copied into another tracker: `mirrors/NAME.json` in the run's folder."""

from pathlib import Path

from mlstack.errors import DataError
from mlstack.records.base import Record, read
from mlstack.records.run import EVENTS

FOLDER = "mirrors"
COPY = "copy"  # of the whole folder, at track.copy_to


class Mirrored(Record, frozen=True, kw_only=True, tag="run.mirrored"):
    """The last that a mirror said of a run; a problem means that it is behind."""

    run: str
    mirror: str
    at: float  # seconds since the epoch
    where: str = ""  # a folder below the project's, or a URL
    events_bytes: int = 0  # of events.jsonl that are in the mirror
    problem: str = ""
    hint: str = ""


def state_file(run_folder: Path, mirror: str) -> Path:
    """Give the file that a mirror keeps of a run."""
    return run_folder / FOLDER / f"{mirror}.json"


def last_state(run_folder: Path, mirror: str) -> Mirrored | None:
    """Read what a mirror said last; None before it said anything, or when that is damaged."""
    try:
        return read(state_file(run_folder, mirror), Mirrored)
    except DataError:
        return None


def states(run_folder: Path) -> list[Mirrored]:
    """Read what all mirrors of a run said last."""
    names = sorted(file.stem for file in (run_folder / FOLDER).glob("*.json"))
    return [state for name in names if (state := last_state(run_folder, name))]


def is_behind(run_folder: Path, mirror: str) -> bool:
    """Tell whether a run has events that the mirror has not."""
    state = last_state(run_folder, mirror)
    events = run_folder / EVENTS
    size = events.stat().st_size if events.is_file() else 0
    return size > 0 and (state is None or bool(state.problem) or state.events_bytes < size)
