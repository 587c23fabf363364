"""Bring mirrors of runs up to date: those that were down, or not asked for yet."""

from collections.abc import Iterator
from pathlib import Path

from mlstack.config import load, refuse_unbuilt
from mlstack.errors import ConfigError
from mlstack.launch import mirrors
from mlstack.records.base import Record
from mlstack.records.layout import Layout
from mlstack.records.mirror import COPY, is_behind, states
from mlstack.records.run import find_run, glance, run_ids
from mlstack.train.results import Copied


def mirror(path: Path, sets: tuple[str, ...], wanted: str | None) -> Iterator[Record]:
    """Copy a run into the mirrors of `track`, also again; without one, all that are behind.

    Trials of a search are many, and their checkpoints large: a whole copy of one has to be named.

    Raises:
        ConfigError: no mirror is named, or one does not know where its server is.
        DataError: there is no such run.
        MachineError: a mirror's package is not installed.
        BusyError: a server is down, or a run is being copied at this moment.
    """
    project = load(path, sets=sets)
    refuse_unbuilt(project, "train")
    asked = mirrors.wanted(project.config.track.model_dump())
    if not asked:
        raise ConfigError(
            "track.mirror names no mirror",
            hint="write `track: {mirror: [tensorboard]}` in mlstack.yaml, or mlflow, wandb; "
            "or `track: {copy_to: URL}`",
        )
    layout = Layout(project.root)
    ids = [find_run(layout.runs, wanted)] if wanted else run_ids(layout.runs)
    seen = [glance(layout.run(run)) for run in ids]
    runs = [run for run in seen if wanted or run.mode == "fit"]
    copied: dict[str, None] = {}
    for name, to in asked.items():
        late = [
            layout.run(run.id)
            for run in runs
            if wanted or (is_behind(layout.run(run.id), name) and not (name == COPY and run.study))
        ]
        if late:
            yield from mirrors.copy(name, late, to)
            copied |= dict.fromkeys(folder.name for folder in late)
    shown = [layout.run(wanted_id) for wanted_id in (ids if wanted else copied)]
    yield Copied(runs=list(copied), mirrors=[state for run in shown for state in states(run)])
