"""Which run to go on with, and whether that is still the same run."""

from mlstack.config import Project
from mlstack.errors import ConfigError, DataError
from mlstack.launch import code
from mlstack.records.dataset_hash import hash_dataset
from mlstack.records.layout import Layout
from mlstack.records.run import RunSpec, find_run
from mlstack.train import store


def resumable(layout: Layout, wanted: str | None, *, at_work: bool = False) -> str:
    """Give the run to go on with: the one named, or the newest that was cut short.

    Args:
        layout: where the runs are.
        wanted: a run, or a part of its id.
        at_work: whether the newest may also be one that is going on, to be followed further.

    Raises:
        DataError: there is none.
        ConfigError: it has nothing to go on with.
    """
    states = ("stopped", "failed", "running") if at_work else ("stopped", "failed")
    if wanted is None:
        for row in store.rows(layout):
            if row.state in states and (row.study, row.mode) == (None, "fit"):
                return row.id
        raise DataError("there is no run that was cut short", hint="type `mlstack train`")
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
