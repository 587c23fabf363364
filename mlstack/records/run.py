"""A run: its spec, its events and what it left.

`.mlstack/runs/ID/run.json` is a `RunSpec` (never changed), `events.jsonl` one event a line.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from mlstack import files
from mlstack.errors import DataError
from mlstack.records.base import Record, read
from mlstack.records.dataset_version import DatasetVersion

SPEC = "run.json"
LOCK = "lock"  # held by whoever trains the run
EVENTS = "events.jsonl"
CHECKPOINTS = "checkpoints"
LAST = "last.ckpt"
BEST = "best.ckpt"
OLDER = "save-*.ckpt"  # with train.keep_last above 1, also older ones, in the order of saves


class CodeVersion(Record, frozen=True, kw_only=True, tag="code.version"):
    """The user's code: commit and what differs from it."""

    commit: str | None = None
    dirty: bool = False
    diff_sha256: str | None = None  # of code.diff beside run.json
    diff_file: str | None = None
    python_sha256: str | None = None  # of the names and contents of all Python files


class Environment(Record, frozen=True, kw_only=True, tag="environment"):
    """The machine and the libraries."""

    python: str
    platform: str
    cpu_count: int
    gpus: list[str] = msgspec.field(default_factory=list)
    packages: dict[str, str] = msgspec.field(default_factory=dict)


class RunSpec(Record, frozen=True, kw_only=True, tag="run.spec"):
    """Everything that a run depends on; written once, before it starts."""

    id: str
    created: str  # UTC, ISO 8601
    root: str  # the project's folder, absolute; follows the project when that moves
    command: list[str]
    config: dict[str, Any]  # the resolved config, as JSON
    dataset: DatasetVersion
    code: CodeVersion
    environment: Environment
    seed: int
    classes: list[str]
    ranks: int = 1
    gpus: list[int] = msgspec.field(default_factory=list)  # of each machine; none is the CPU
    mode: str = "fit"  # fit or check
    parent: str | None = None  # run that this one repeats (--from-run)
    study: str | None = None
    trial: int | None = None


class Started(Record, frozen=True, kw_only=True, tag="run.started"):
    """The ranks are up; `attempt` counts from 1 and grows with each --resume."""

    run: str
    at: float  # seconds since the epoch
    attempt: int = 1
    parameters: int = 0
    device: str = "cpu"
    ranks: int = 1
    step: int = 0  # where it goes on from


class Reading(Record, frozen=True, kw_only=True, tag="run.reading"):
    """Examples are made ready before the first step, at most a few times a second."""

    run: str
    at: float
    text: str
    done: int
    total: int


class Stepped(Record, frozen=True, kw_only=True, tag="run.stepped"):
    """Progress inside an epoch, at most a few a second."""

    run: str
    at: float
    epoch: int
    step: int
    batch: int
    batches: int
    metrics: dict[str, float] = msgspec.field(default_factory=dict)


class EpochEnded(Record, frozen=True, kw_only=True, tag="run.epoch"):
    """One pass over train and val; `metrics` holds what was logged, e.g. `val/acc`."""

    run: str
    at: float
    epoch: int  # counts from 1
    epochs: int
    step: int
    metrics: dict[str, float]
    best: bool = False
    seconds: float = 0.0


class Checked(Record, frozen=True, kw_only=True, tag="run.checked"):
    """One check of `train --check`."""

    run: str
    name: str
    passed: bool
    detail: str
    hint: str = ""


class CheckpointSaved(Record, frozen=True, kw_only=True, tag="run.checkpoint"):
    """A checkpoint is on the disk, whole."""

    run: str
    at: float
    file: str  # below the run's folder
    step: int
    sha256: str = ""


class Finished(Record, frozen=True, kw_only=True, tag="run.finished"):
    """The run is over; `metrics` are those of the best epoch and of the test part."""

    run: str
    at: float
    step: int
    epoch: int
    metrics: dict[str, float]
    seconds: float = 0.0


class Stopped(Record, frozen=True, kw_only=True, tag="run.stopped"):
    """Interrupted with its state saved; `--resume` goes on."""

    run: str
    at: float
    step: int
    reason: str


class Failed(Record, frozen=True, kw_only=True, tag="run.failed"):
    """The run ended badly; `rank` says which process was first."""

    run: str
    at: float
    rank: int
    problem: str
    hint: str = ""
    traceback: str = ""
    category: str = "StepError"  # name of the error class, so of the exit code


RunEvent = (
    Started
    | Reading
    | Stepped
    | EpochEnded
    | Checked
    | CheckpointSaved
    | Finished
    | Stopped
    | Failed
)
TERMINAL = (Finished, Stopped, Failed)


def read_events(run_folder: Path) -> list[RunEvent]:
    """Read the events of a run; a last line cut off by a crash is left out."""
    path = run_folder / EVENTS
    if not path.is_file():
        return []
    return list(decode_events(path.read_bytes(), where=str(path)))


def decode_events(content: bytes, *, where: str) -> Iterator[RunEvent]:
    """Decode whole lines.

    Raises:
        DataError: a line is not an event.
    """
    whole, _, _ = content.rpartition(b"\n")
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            yield _DECODER.decode(line)
        except msgspec.DecodeError as error:
            raise DataError(
                f"{where}:{number}: not an event of a run: {error}",
                hint="move the run's folder away, or train anew; other runs are not concerned",
            ) from error


def append_event(run_folder: Path, event: RunEvent) -> None:
    """Append one event, whole."""
    files.append_line(run_folder / EVENTS, msgspec.json.encode(event))


_DECODER: msgspec.json.Decoder[RunEvent] = msgspec.json.Decoder(RunEvent)


class RunSummary(Record, frozen=True, kw_only=True, tag="run.summary"):
    """A run at a glance, read from its folder alone."""

    id: str
    state: str  # finished, stopped, failed or damaged; running, new or queued may change
    created: str
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    problem: str = ""
    parent: str | None = None
    study: str | None = None
    trial: int | None = None
    mode: str = "fit"


def summarise(run_folder: Path) -> RunSummary:
    """Read a run's spec and events into one record.

    Raises:
        DataError: there is no readable run.json.
    """
    spec = read(run_folder / SPEC, RunSpec)
    events = read_events(run_folder)
    last_epoch = next((e for e in reversed(events) if isinstance(e, EpochEnded)), None)
    # An earlier mlstack noted in a finished run that an evaluation decoded its images.
    last = next((e for e in reversed(events) if not isinstance(e, Reading)), None)
    end = last if isinstance(last, Finished) or not events else events[-1]
    epoch_metrics = last_epoch.metrics if last_epoch else {}
    return RunSummary(
        id=spec.id,
        state=_STATES.get(type(end), "running") if end else "new",
        created=spec.created,
        epoch=last_epoch.epoch if last_epoch else 0,
        epochs=last_epoch.epochs if last_epoch else 0,
        step=end.step if isinstance(end, Finished | Stopped) else 0,
        metrics=end.metrics if isinstance(end, Finished) else epoch_metrics,
        problem=end.problem if isinstance(end, Failed) else "",
        parent=spec.parent,
        study=spec.study,
        trial=spec.trial,
        mode=spec.mode,
    )


def glance(run_folder: Path) -> RunSummary:
    """Summarise a run for a list: one whose records are damaged says so and stops nothing."""
    try:
        return summarise(run_folder)
    except DataError as error:
        return RunSummary(id=run_folder.name, state="damaged", created="", problem=error.problem)


def run_ids(runs: Path) -> list[str]:
    """List the ids of all runs, oldest first; ids sort by time."""
    if not runs.is_dir():
        return []
    names = (p.name for p in runs.iterdir() if (p / SPEC).is_file())
    return sorted(name for name in names if not name.startswith("."))  # those are being built


def find_run(runs: Path, wanted: str | None) -> str:
    """Resolve a run id, an unambiguous part of one, or None for the newest finished run.

    Raises:
        DataError: no run, or several runs, fit.
    """
    ids = run_ids(runs)
    if wanted is None:
        for run_id in reversed(ids):
            summary = glance(runs / run_id)
            if (summary.state, summary.study, summary.mode) == ("finished", None, "fit"):
                return run_id
        raise DataError("there is no finished run", hint="type `mlstack train`")
    fitting = [i for i in ids if i == wanted] or [i for i in ids if wanted in i]
    if len(fitting) != 1:
        what = "no run fits" if not fitting else f"{len(fitting)} runs fit"
        raise DataError(f"{what} `{wanted}`", hint="type `mlstack train ls`")
    return fitting[0]


_STATES: dict[type, str] = {
    Finished: "finished",
    Stopped: "stopped",
    Failed: "failed",
}
