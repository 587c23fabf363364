"""Copy runs into one mirror: `python -m mlstack.train.worker.mirrors NAME RUN... [--follow]`."""

import argparse
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from mlstack import files
from mlstack.errors import BusyError, MlstackError, StepError
from mlstack.launch.worker import report
from mlstack.records import base
from mlstack.records.mirror import COPY, Mirrored, state_file
from mlstack.records.worker import WorkerProgress
from mlstack.train.worker.mirrors.entry import Mirror, Reader, entry
from mlstack.train.worker.mirrors.folder import follow

MIRRORS = {
    "tensorboard": "mlstack.train.worker.mirrors.tensorboard:TensorBoard",
    "mlflow": "mlstack.train.worker.mirrors.mlflow:Mlflow",
    "wandb": "mlstack.train.worker.mirrors.wandb:Wandb",
}
LOOK_S = 1.0  # between two looks at a run that goes on
AGAIN_S = 15.0  # until a server that is down is asked once more
NICE = 10  # the ranks come first


def main() -> int:
    """Copy; give the exit code."""
    parser = argparse.ArgumentParser(prog="mlstack.train.worker.mirrors")
    parser.add_argument("mirror", choices=[*MIRRORS, COPY])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--follow", action="store_true")
    parser.add_argument("--to", default="", help="where a copy goes")
    given = parser.parse_args()
    os.nice(NICE)
    if given.follow:
        return _follow(Task(given.mirror, given.to), given.runs[0].resolve())
    with os.fdopen(os.dup(1), "wb") as channel:
        os.dup2(2, 1)
        runs = [run.resolve() for run in given.runs]
        return report(_copy(Task(given.mirror, given.to), runs), channel)


@dataclass(frozen=True)
class Task:
    """What is asked of this process."""

    name: str  # of the mirror
    to: str  # where a copy goes; trackers know from their own settings


def _copy(task: Task, folders: list[Path]) -> Iterator[WorkerProgress]:
    """Copy runs as they are."""
    for done, folder in enumerate(folders, start=1):
        over = threading.Event()
        over.set()
        try:
            _mirror(task, folder, over)
        except Exception as error:  # whatever a tracker's library raises
            _keep(folder, task.name, _told(error))
            raise _told(error) from error
        yield WorkerProgress(
            text=f"copying into {task.to or task.name}", done=done, total=len(folders)
        )


def _follow(task: Task, folder: Path) -> int:
    """Copy a run while it goes; a server that is down is asked again until the run is over."""
    over = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=(over,), daemon=True).start()
    while True:
        try:
            _mirror(task, folder, over)
        except BusyError as error:
            _keep(folder, task.name, error)
            if over.is_set():
                return 1
            over.wait(AGAIN_S)
        except Exception as error:  # whatever a tracker's library raises is told, not died of
            traceback.print_exc()
            _keep(folder, task.name, _told(error))
            return 1
        else:
            return 0


def _told(error: Exception) -> MlstackError:
    """Give what a tracker's library raised as an error that can be shown."""
    if isinstance(error, MlstackError):
        return error
    words = str(error).splitlines() or [""]
    return StepError(f"{type(error).__name__}: {words[0]}")


def _wait_for_the_end(over: threading.Event) -> None:
    """Whoever started this process closes its stdin when the run is over, or dies."""
    sys.stdin.buffer.read()
    over.set()


def _mirror(task: Task, folder: Path, over: threading.Event) -> None:
    """Copy one run from its first event until it is over."""
    name = task.name
    with files.lock(state_file(folder, name).with_suffix(".lock"), f"mirror {name} of this run"):
        while not _has_begun(folder):
            if over.wait(LOOK_S) and not _has_begun(folder):
                return  # it never began; one of less than a second may have, and be over
        if name == COPY:
            follow(folder, task.to, over, partial(_keep_copy, folder))
            return
        module, _, kind = MIRRORS[name].partition(":")
        make = getattr(import_module(module), kind)
        while not _copied(name, folder, make(), over):
            pass  # it was gone on with from an earlier step, so the copy begins anew


def _copied(name: str, folder: Path, mirror: Mirror, over: threading.Event) -> bool:
    """Copy until the run is over; give False when a resume takes back what was copied."""
    reader = Reader(folder)
    mirror.open(entry(folder))
    while True:
        is_last = over.is_set()  # asked before the look, so that nothing is missed
        points = reader.new()
        if reader.went_back:
            mirror.close("running")
            return False
        if points:
            mirror.write(points)
            _keep(folder, name, where=mirror.where, events_bytes=reader.offset)
        if is_last:
            mirror.close(reader.state)
            _keep(folder, name, where=mirror.where, events_bytes=reader.offset)
            return True
        over.wait(LOOK_S)


def _keep_copy(folder: Path, where: str, events_bytes: int) -> None:
    _keep(folder, COPY, where=where, events_bytes=events_bytes)


def _has_begun(folder: Path) -> bool:
    return (folder / "events.jsonl").is_file()


def _keep(folder: Path, name: str, error: MlstackError | None = None, **done: Any) -> None:
    """Note how far the mirror is with a run, or what is wrong."""
    if error is not None:
        done = {"problem": error.problem, "hint": error.hint}
    state = Mirrored(run=folder.name, mirror=name, at=time.time(), **done)
    # not synced: it is written every second, and one that is lost only costs another copy
    files.write_hint(state_file(folder, name), base.encode(state).decode())


if __name__ == "__main__":
    sys.exit(main())
