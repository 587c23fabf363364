"""Look at runs: list them, show one, compare several."""

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from msgspec import structs

from mlstack import files
from mlstack.config import Project, load
from mlstack.errors import ConfigError, DataError, MachineError
from mlstack.records.base import read
from mlstack.records.job import JOB
from mlstack.records.layout import Layout
from mlstack.records.mirror import states
from mlstack.records.run import CHECKPOINTS, SPEC, RunSpec, RunSummary, find_run, run_ids
from mlstack.train import html, html_compare, store
from mlstack.train.curves import History, history
from mlstack.train.differences import code_line, data_change, data_line, lined_up
from mlstack.train.flat import flat
from mlstack.train.results import RunList, RunRow, RunsCompared, RunShown
from mlstack.train.use import use_of

STATES = ("running", "queued", "finished", "stopped", "failed", "damaged")


@dataclass(frozen=True)
class Listing:
    """Which runs are listed, and in which order."""

    best: bool = False
    state: str | None = None
    limit: int | None = None


def ls(path: Path, sets: tuple[str, ...], listing: Listing) -> RunList:
    """List the runs of a project, newest first; checks are left out.

    Raises:
        ConfigError: there is no such state.
    """
    if listing.state is not None and listing.state not in STATES:
        raise ConfigError(
            f"--state: `{listing.state}` is none of {', '.join(STATES)}",
            hint="leave it away to list all",
        )
    project = load(path, sets=sets)
    shared = project.config.track.store != "local"
    rows = shared_rows(project) if shared else store.rows(_layout(project))
    rows = [row for row in rows if row.mode == "fit" and listing.state in (None, row.state)]
    if listing.best:
        rows = _best_first(rows, project.config.train.monitor, project.config.train.mode)
    return RunList(runs=rows[: listing.limit])


def _best_first(rows: list[RunRow], monitor: str, mode: str) -> list[RunRow]:
    """Order by what the project watches now; runs that watched something else come last."""
    judged = [row for row in rows if row.monitor == monitor and row.value is not None]
    judged.sort(key=lambda row: row.value or 0.0, reverse=mode == "max")
    return [*judged, *(row for row in rows if row not in judged)]


def shared_rows(project: Project) -> list[RunRow]:
    """Bring `track.store` up to date with the runs here; list those of all machines.

    Raises:
        ConfigError: the server refuses who asks.
        BusyError: it cannot be reached.
        MachineError: the package that speaks to it is not installed.
    """
    try:
        shared = import_module("mlstack.train.shared")
    except ImportError as error:
        raise MachineError(
            "track.store: the package for postgresql:// is not installed",
            hint="type `pip install 'mlstack[postgres]'`",
        ) from error
    return cast("list[RunRow]", shared.rows(project))


def show(path: Path, sets: tuple[str, ...], run: str | None, page: Path | None) -> RunShown:
    """Show one run, the newest when none is named; `page` also writes it as HTML.

    Raises:
        DataError: there is no such run.
    """
    layout = _layout(load(path, sets=sets))
    folder = layout.run(_find(layout, run))
    past = history(folder)
    shown = structs.replace(_shown(layout, folder, past), html=str(page or ""))
    if page:
        files.write_text(page, html.one(shown, past))
    return shown


def compare(path: Path, sets: tuple[str, ...], names: list[str], page: Path | None) -> RunsCompared:
    """Say what differs between runs; `page` also writes it as HTML.

    Raises:
        ConfigError: fewer than two runs are named.
        DataError: there is no such run.
    """
    if len(names) < 2:
        raise ConfigError("compare needs two runs or more", hint="type `mlstack train ls`")
    layout = _layout(load(path, sets=sets))
    folders = [layout.run(_find(layout, name)) for name in names]
    pasts = [history(folder) for folder in folders]
    shown = [_shown(layout, *each) for each in zip(folders, pasts, strict=True)]
    changes = [data_change(folders[0], folder) for folder in folders[1:]]
    found = RunsCompared(
        runs=shown,
        settings=lined_up([flat(one.spec.config) for one in shown], json.dumps),
        metrics=lined_up([_judged(one) for one in shown], "{:.4g}".format, equal=True),
        data=[data_line(change, shown[0].spec) for change in changes],
        code=[code_line(shown[0].spec, other.spec) for other in shown[1:]],
        changes=changes,
        html=str(page or ""),
    )
    if page:
        files.write_text(page, html_compare.several(found, pasts))
    return found


def _layout(project: Project) -> Layout:
    return Layout(project.root)


def _find(layout: Layout, wanted: str | None) -> str:
    ids = run_ids(layout.runs)
    if wanted is None and not ids:
        raise DataError("there is no run yet", hint="type `mlstack train`")
    return find_run(layout.runs, ids[-1] if wanted is None else wanted)


def _shown(layout: Layout, folder: Path, past: History) -> RunShown:
    kept = sorted((folder / CHECKPOINTS).glob("*.ckpt"))
    found = store.summary(folder)
    return RunShown(
        spec=read(folder / SPEC, RunSpec),
        summary=found,
        epochs=past.epochs,
        checkpoints=[str(p.relative_to(layout.root)) for p in kept],
        use=use_of(past),
        mirrors=states(folder),
        attempts=past.attempts,
        next=_next(folder, found),
    )


def _next(folder: Path, found: RunSummary) -> str:
    """Say what to type to go on with a run, or to follow the job that it is."""
    is_job = (folder / JOB).is_file()
    goes_on = f"mlstack train --on slurm --resume {found.id}"
    if found.mode != "fit" or found.study is not None:
        return ""
    if found.state in ("stopped", "failed"):
        return goes_on if is_job else f"mlstack train --resume {found.id}"
    return goes_on if is_job and found.state in ("queued", "running") else ""


def _judged(run: RunShown) -> dict[str, float]:
    """Give the metrics of the best epoch, and of the test if the run got that far."""
    if run.summary.state == "finished":
        return run.summary.metrics
    return store.best_metrics(list(run.epochs))
