"""Which run to go on with, and whether that is still the same run."""

import time
from collections.abc import Callable, Iterator

from mlstack.config import Project
from mlstack.errors import BusyError, ConfigError, DataError
from mlstack.launch import code
from mlstack.records.dataset_hash import hash_dataset
from mlstack.records.layout import Layout
from mlstack.records.run import (
    CheckpointSaved,
    EpochEnded,
    Finished,
    Reading,
    RunSpec,
    Started,
    Stepped,
    find_run,
)
from mlstack.records.worker import WorkerProgress
from mlstack.train import store
from mlstack.train.copies import Copies
from mlstack.train.results import RunRow

GOING = Started | Reading | Stepped | EpochEnded | CheckpointSaved  # the last word of no run
QUIET_S = 60.0  # without a new copy: nobody trains the run any more
WATCH_S = 20.0  # in which a run that is going on is copied once, at least


def resumable(layout: Layout, wanted: str | None, *, at_work: bool = False) -> str:
    """Give the run to go on with: the one named, or the newest that was cut short.

    Args:
        layout: where the runs are.
        wanted: a run, or a part of its id.
        at_work: whether the newest may also be one that is going on, to be followed further.

    Raises:
        DataError: there is none.
        BusyError: there is none but one that is being trained.
        ConfigError: it has nothing to go on with.
    """
    if wanted is None:
        return _newest(store.rows(layout), at_work=at_work)
    run_id = find_run(layout.runs, wanted)
    found = store.summary(layout.run(run_id))
    if found.state == "finished":
        raise ConfigError(
            f"run `{run_id}` has finished; there is nothing to go on with",
            hint=f"`mlstack train --from-run {run_id}` trains again with its settings",
        )
    if found.mode != "fit":
        raise ConfigError(f"run `{run_id}` was a check", hint="type `mlstack train`")
    return run_id


def _newest(rows: list[RunRow], *, at_work: bool) -> str:
    mine = [row for row in rows if (row.study, row.mode) == (None, "fit")]
    going = [row for row in mine if row.state == "running"]
    # One in the queue is named, not passed over: whoever goes on with it is told of its job.
    short = [row for row in mine if row.state in ("stopped", "failed", "queued")]
    if at_work:
        short = [row for row in mine if row in short or row in going]
    if short:
        return short[0].id
    if going:
        raise BusyError(f"run `{going[0].id}` is being trained", hint="Ctrl-C there stops it")
    raise DataError("there is no run that was cut short", hint="type `mlstack train`")


def bring(
    project: Project, wanted: str | None, *, pause: Callable[[float], None] = time.sleep
) -> Iterator[WorkerProgress]:
    """Fetch the run to go on with from `track.copy_to`, when it is not here.

    The clock of another machine may be wrong, so a run that may be going on is looked at twice.

    Args:
        project: the project here.
        wanted: a run, or a part of its id; the newest when None.
        pause: waits for so many seconds.

    Raises:
        BusyError: it seems to be trained on another machine, or the place cannot be reached.
    """
    url = project.config.track.copy_to
    layout = Layout(project.root)
    if url is None or _is_here(layout, wanted):
        return
    copies = Copies(url, project.root)
    there = copies.runs()
    fitting = [run for run in there if run == wanted] or [r for r in there if (wanted or "") in r]
    if not fitting or (wanted and len(fitting) > 1):
        return  # `resumable` says what is here
    run = fitting[-1]
    last = copies.last_event(run)
    going = isinstance(last, GOING) and 0 <= time.time() - last.at < QUIET_S
    if isinstance(last, GOING) and not going:
        yield WorkerProgress(
            text=f"looking whether run {run} is trained elsewhere", done=0, total=0
        )
        pause(WATCH_S)
        going = copies.last_event(run) != last
    if going:
        raise BusyError(
            f"run `{run}` seems to be trained on another machine: it was copied a moment ago",
            hint=f"stop it there; {QUIET_S:.0f} s after its last copy it can go on here",
        )
    if wanted or not isinstance(last, Finished):
        yield from copies.fetch(run, layout.run(run))


def _is_here(layout: Layout, wanted: str | None) -> bool:
    try:
        resumable(layout, wanted)
    except DataError:
        return False
    except (ConfigError, BusyError):  # it is here, and has nothing to go on with
        return True
    return True


def changed(project: Project, spec: RunSpec, *, allow_dirty: bool) -> list[str]:
    """Refuse to go on with other data or other code than the run began with.

    Returns:
        What has changed, when that is allowed.

    Raises:
        DataError: the data has changed.
        ConfigError: only the code has.
    """
    source = spec.dataset.source
    now = hash_dataset(project.root, source)
    other_data = now.md5 != spec.dataset.md5
    other_code = code.python_sha256(project.root) != spec.code.python_sha256
    notes = [f"the data in `{source}` has changed since the run began"] * other_data
    notes += ["the code has changed since the run began"] * other_code
    if notes and not allow_dirty:
        raise (DataError if other_data else ConfigError)(
            f"run `{spec.id}`: {' and '.join(notes)}",
            hint=f"`mlstack train --from-run {spec.id}` starts anew; "
            "--allow-dirty goes on all the same",
        )
    return notes
