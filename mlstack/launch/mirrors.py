"""Copies of runs for other trackers, made by processes of their own that read a run's folder.

`python -m mlstack.train.worker.mirrors NAME RUN_FOLDER...` copies runs and ends. With `--follow` it
copies one run while it goes, until its stdin is closed, and keeps what it has done, or what is
wrong, in `mirrors/NAME.json` (`run.mirrored`). Nobody in a run waits for it, and nothing of it is
an error of the run: who is late or down is told, and `mlstack train mirror` catches up.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from mlstack.errors import MachineError, MlstackError
from mlstack.launch import tether
from mlstack.launch.worker import run_worker
from mlstack.records import base
from mlstack.records.base import Notice, Record
from mlstack.records.mirror import COPY, Mirrored, is_behind, last_state, state_file
from mlstack.records.worker import WorkerProgress

WORKER = "mlstack.train.worker.mirrors"
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}  # mlflow is spoken to by httpx
LEAVE_S = 10.0  # for the last points, when the run is over; one that is down needs none of it
COPY_LEAVE_S = 600.0  # for the last checkpoint, which may be large

Wanted = Mapping[str, str]  # mirrors by name, each with where it goes when it has to be told


class Behind(Notice, frozen=True, kw_only=True, tag="mirror.behind"):
    """A mirror does not have all of a run; the run itself is whole."""

    run: str
    mirror: str
    problem: str
    hint: str

    def warning(self) -> str:
        """Say it in one line."""
        return f"warning: the mirror {self.mirror} is behind: {self.problem}; {self.hint}"


def wanted(track: Mapping[str, Any]) -> Wanted:
    """Give the mirrors that a section `track` asks for."""
    copy_to = track.get("copy_to")
    return dict.fromkeys(track.get("mirror", ()), "") | ({COPY: copy_to} if copy_to else {})


@contextmanager
def following(run_folder: Path, mirrors: Wanted) -> Iterator[None]:
    """Copy a run into mirrors for a block; those that are late at its end are cut off."""
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(_started(run_folder, name, to))
            for name, to in mirrors.items()
            if _is_there(run_folder, name)
        }
        try:
            yield
        finally:
            for process in started.values():
                with suppress(OSError):  # it has died already
                    assert process.stdin is not None
                    process.stdin.close()
            over = time.monotonic()
            for name, process in started.items():
                deadline = over + (COPY_LEAVE_S if name == COPY else LEAVE_S)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0, deadline - time.monotonic()))


def behind(run_folder: Path, names: Iterable[str]) -> Iterator[Behind]:
    """Say which mirrors do not have all of a run, and why."""
    for name in names:
        if is_behind(run_folder, name):
            state = last_state(run_folder, name)
            said = state.problem if state else ""
            yield Behind(
                run=run_folder.name,
                mirror=name,
                problem=said or f"it was not ready {LEAVE_S:.0f} s after the run's end",
                hint=f"`mlstack train mirror {run_folder.name}` brings it up to date",
            )


def copy(name: str, folders: list[Path], to: str = "") -> Iterator[WorkerProgress]:
    """Bring a mirror up to date with runs.

    Raises:
        MachineError: its package is not installed.
        BusyError: its server is down, or somebody else is at it.
        MlstackError: what else went wrong.
    """
    if lack := lacking(name):
        raise MachineError(lack.problem, hint=lack.hint)
    said = msgspec.json.Decoder(WorkerProgress).decode
    words = [name, *map(str, folders), *_where(to)]
    yield from run_worker(WORKER, words, said, _log(folders[0], name))


def catch_up(folders: list[Path], mirrors: Wanted) -> Iterator[Record]:
    """Copy runs that are over; what does not work is told and fails nothing."""
    for name, to in mirrors.items():
        late = [folder for folder in folders if is_behind(folder, name)]
        if not late:
            continue
        try:
            yield from copy(name, late, to)
        except MlstackError as error:
            hint = "`mlstack train mirror` brings it up to date"
            yield Behind(run=late[0].name, mirror=name, problem=error.problem, hint=hint)


def lacking(name: str) -> MachineError | None:
    """Give the error of a mirror whose package is not installed."""
    package = PACKAGES.get(name)
    if package is None or importlib.util.find_spec(package) is not None:
        return None
    return MachineError(
        f"the mirror {name} needs `{package}`, which is not installed",
        hint=f'pip install "mlstack[{name}]"',
    )


def _is_there(run_folder: Path, name: str) -> bool:
    lack = lacking(name)
    if lack is not None:
        state = Mirrored(
            run=run_folder.name, mirror=name, at=time.time(), problem=lack.problem, hint=lack.hint
        )
        base.write(state_file(run_folder, name), state)
    return lack is None


@contextmanager
def _started(run_folder: Path, name: str, to: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a mirror's process for a block; nothing of it is left after it."""
    words = [sys.executable, "-m", WORKER, name, str(run_folder), "--follow", *_where(to)]
    log = _log(run_folder, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            tether.tied(signal.SIGKILL, words),
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            start_new_session=True,  # Ctrl-C is for the run; and it may start others
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _where(to: str) -> list[str]:
    return ["--to", to] if to else []


def _log(run_folder: Path, name: str) -> Path:
    return run_folder / "logs" / f"mirror-{name}.log"
