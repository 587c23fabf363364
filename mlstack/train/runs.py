"""Look at runs: list them, show one, compare several."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from mlstack import files
from mlstack.config import Project, load
from mlstack.errors import ConfigError, DataError, MachineError
from mlstack.records.base import read
from mlstack.records.dataset import EXAMPLES, read_examples
from mlstack.records.layout import Layout
from mlstack.records.run import (
    CHECKPOINTS,
    SPEC,
    EpochEnded,
    RunSpec,
    find_run,
    read_events,
    run_ids,
)
from mlstack.train import html, store
from mlstack.train.results import Difference, RunList, RunRow, RunsCompared, RunShown


def ls(path: Path, sets: tuple[str, ...]) -> RunList:
    """List the runs of a project, newest first; checks are left out."""
    project = load(path, sets=sets)
    shared = project.config.track.store != "local"
    rows = shared_rows(project) if shared else store.rows(_layout(project))
    return RunList(runs=[row for row in rows if row.mode == "fit"])


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
    shown = _shown(layout, _find(layout, run), page)
    if page:
        files.write_text(page, html.one(shown))
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
    shown = [_shown(layout, _find(layout, name), None) for name in names]
    found = RunsCompared(
        runs=shown,
        settings=_differences([_flat(one.spec.config) for one in shown], json.dumps),
        metrics=_differences([_judged(one) for one in shown], "{:.4g}".format, equal=True),
        data=[_data(layout, shown[0].spec, other.spec) for other in shown[1:]],
        code=[_code(shown[0].spec, other.spec) for other in shown[1:]],
        html=str(page or ""),
    )
    if page:
        files.write_text(page, html.several(found))
    return found


def _layout(project: Project) -> Layout:
    return Layout(project.root)


def _find(layout: Layout, wanted: str | None) -> str:
    ids = run_ids(layout.runs)
    if wanted is None and not ids:
        raise DataError("there is no run yet", hint="type `mlstack train`")
    return find_run(layout.runs, wanted or ids[-1])


def _shown(layout: Layout, run_id: str, page: Path | None) -> RunShown:
    folder = layout.run(run_id)
    kept = sorted((folder / CHECKPOINTS).glob("*.ckpt"))
    return RunShown(
        spec=read(folder / SPEC, RunSpec),
        summary=store.summary(folder),
        epochs=[e for e in read_events(folder) if isinstance(e, EpochEnded)],
        checkpoints=[str(p.relative_to(layout.root)) for p in kept],
        html=str(page or ""),
    )


def _judged(run: RunShown) -> dict[str, float]:
    """Give the metrics of the best epoch, and of the test if the run got that far."""
    if run.summary.state == "finished":
        return run.summary.metrics
    return store.best_metrics(list(run.epochs))


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _differences(
    sides: list[dict[str, Any]], show_value: Callable[[Any], str], *, equal: bool = False
) -> list[Difference]:
    """Line up the values of each name; equal ones too when asked for."""
    found = []
    for name in dict.fromkeys(name for side in sides for name in side):
        values = [show_value(side[name]) if name in side else None for side in sides]
        if equal or len(set(values)) > 1:
            found.append(Difference(name=name, values=values))
    return found


def _data(layout: Layout, first: RunSpec, other: RunSpec) -> str:
    if first.dataset.md5 == other.dataset.md5:
        return f"same data, {other.dataset.md5[:8]}"
    before, after = _labels(layout, first), _labels(layout, other)
    both = before.keys() & after.keys()
    relabeled = sum(before[path] != after[path] for path in both)
    return (
        f"{first.dataset.md5[:8]} -> {other.dataset.md5[:8]}: "
        f"{len(after) - len(both)} examples added, {len(before) - len(both)} removed, "
        f"{relabeled} labeled anew"
    )


def _labels(layout: Layout, spec: RunSpec) -> dict[str, str]:
    table = read_examples(layout.run(spec.id) / EXAMPLES)
    return dict(zip(table["path"].to_pylist(), table["label"].to_pylist(), strict=True))


def _code(first: RunSpec, other: RunSpec) -> str:
    sides = [_commit(first), _commit(other)]
    if first.code.python_sha256 == other.code.python_sha256:
        return f"same Python files, {sides[1]}"
    return f"{sides[0]} -> {sides[1]}"


def _commit(spec: RunSpec) -> str:
    commit = (spec.code.commit or "no commit")[:9]
    return f"{commit} with changes" if spec.code.dirty else commit
