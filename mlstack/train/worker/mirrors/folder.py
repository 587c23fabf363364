"""A copy of a run's whole folder at `track.copy_to`, while the run goes."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

from mlstack.records.base import read
from mlstack.records.run import CHECKPOINTS, EVENTS, SPEC, RunSpec
from mlstack.train.copies import Copies, files_of

LOOK_S = 1.0  # between two looks for a new checkpoint
RECORDS_S = 15.0  # between two copies of what grows with every step

Kept = Callable[[str, int], None]
Seen = dict[str, tuple[int, int]]


def follow(folder: Path, to: str, over: threading.Event, kept: Kept) -> None:
    """Copy what is new until the run is over, and then the rest.

    Args:
        folder: the run's.
        to: URL, or folder, for all runs.
        over: set when the run is over.
        kept: told where the copy is and how many bytes of the events it has.

    Raises:
        BusyError: the place cannot be reached; whoever calls again begins anew.
        ConfigError: it refuses, or is no URL.
        MachineError: a package is missing.
    """
    spec = read(folder / SPEC, RunSpec)
    copies = Copies(to, Path(spec.root))
    known: Seen = {}
    records_at, events_bytes = 0.0, 0
    while True:
        is_last = over.is_set()  # asked before the look, so that nothing is missed
        found = files_of(folder)
        changed = [name for name in found if found[name] != known.get(name)]
        saved = any(name.startswith(CHECKPOINTS) for name in changed)
        if changed and (saved or is_last or time.monotonic() - records_at > RECORDS_S):
            events_bytes = copy_changes(copies, folder, found, known) or events_bytes
            known, records_at = found, time.monotonic()
            kept(f"{copies.url}/{spec.id}", events_bytes)
        if is_last:
            return
        over.wait(LOOK_S)


def copy_changes(copies: Copies, folder: Path, found: Seen, known: Seen) -> int:
    """Copy what has changed; give how many bytes of the events are there now, 0 for as before."""
    events_bytes = 0
    for name in (name for name in found if found[name] != known.get(name)):
        if name == EVENTS:
            content = (folder / name).read_bytes()
            events_bytes = content.rfind(b"\n") + 1
            copies.put(folder.name, name, content[:events_bytes])
        elif (folder / name).exists():  # an older checkpoint may just have been dropped
            copies.put(folder.name, name, folder / name)
    for name in known:
        if name.startswith(CHECKPOINTS) and name not in found:
            copies.drop(folder.name, name)
    return events_bytes
