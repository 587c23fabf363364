"""Where a run or a model package comes from, read from its records alone."""

from pathlib import Path
from typing import Any

from mlstack.config import Project
from mlstack.errors import DataError
from mlstack.records.base import read
from mlstack.records.layout import Layout
from mlstack.records.lineage import Lineage
from mlstack.records.package import SIDE, Live, numbers
from mlstack.records.run import SPEC, RunSpec, find_run, glance, run_ids
from mlstack.version.result import SettingChange, Shown

LINEAGE = "lineage.json"
LIVE = "live.json"


def show(project: Project, wanted: str) -> Shown:
    """Tell the origin of a run or a package.

    Raises:
        DataError: nothing fits `wanted`, or a record is damaged.
    """
    layout = Layout(project.root)
    package = find_package(project, wanted)
    if package is not None:
        return _of_package(layout, package)
    spec = find_spec(layout, wanted)
    return Shown(
        model=None,
        number=None,
        run=spec.id,
        created=spec.created,
        dataset=spec.dataset,
        code=spec.code,
        environment=spec.environment,
        seed=spec.seed,
        config=spec.config,
        **_around(layout, spec.id, spec.config, spec.parent),
    )


def find_package(project: Project, wanted: str) -> Path | None:
    """Find a package by a path in it, `NAME/N`, `NAME` (what is live, else the newest) or `N`."""
    path = Path(wanted)
    for folder in (path, *path.parents) if path.exists() else ():
        if (folder / SIDE / LINEAGE).is_file():
            return folder
    layout = Layout(project.root)
    name, _, number = wanted.rpartition("/")
    model = layout.model(name or project.config.project.name)
    if number.isdigit() and (model / number / SIDE / LINEAGE).is_file():
        return model / number
    model = layout.model(wanted)
    if wanted and "/" not in wanted and (present := numbers(model)):
        answering = read(model / LIVE, Live).live if (model / LIVE).is_file() else None
        return model / str(answering or present[-1])
    return None


def find_spec(layout: Layout, wanted: str) -> RunSpec:
    """Find a run by its id, a part of it, or a path in its folder.

    Raises:
        DataError: none, or several, fit.
    """
    path = Path(wanted)
    for folder in (path, *path.parents) if path.exists() else ():
        if (folder / SPEC).is_file():
            return read(folder / SPEC, RunSpec)
    try:
        return read(layout.run(find_run(layout.runs, wanted)) / SPEC, RunSpec)
    except DataError as error:
        raise DataError(
            f"no run or package fits `{wanted}`: {error.problem}",
            hint="type `mlstack train ls`, or name a package as NAME/N",
        ) from error


def _of_package(layout: Layout, package: Path) -> Shown:
    lineage = read(package / SIDE / LINEAGE, Lineage)
    return Shown(
        model=lineage.model,
        number=lineage.number,
        run=lineage.run,
        created=lineage.created,
        dataset=lineage.dataset,
        code=lineage.code,
        environment=lineage.environment,
        seed=lineage.seed,
        config=lineage.config,
        live=[
            f"{role} since {live.changed}" if role == "live" else role
            for role, live in _roles(package.parent, lineage.number)
        ],
        **_around(layout, lineage.run, lineage.config, lineage.parent),
    )


def _around(layout: Layout, run: str, config: dict[str, Any], parent: str | None) -> dict[str, Any]:
    """Give the fields of `Shown` that other records hold."""
    ids = run_ids(layout.runs)
    earlier = (i for i in reversed(ids) if i < run and glance(layout.run(i)).state != "damaged")
    other = parent if parent in ids else next(earlier, None)
    before = read(layout.run(other) / SPEC, RunSpec).config if other else {}
    return {
        "metrics": glance(layout.run(run)).metrics if run in ids else {},
        "compared_with": other,
        "settings": _changes(before, config) if other else [],
        "parents": _parents(layout, parent),
        "packages": _packages(layout, run),
    }


def _parents(layout: Layout, parent: str | None) -> list[str]:
    found: list[str] = []
    while parent and parent not in found:
        found.append(parent)
        path = layout.run(parent) / SPEC
        parent = read(path, RunSpec).parent if path.is_file() else None
    return found


def _packages(layout: Layout, run: str) -> list[str]:
    found = []
    for model in sorted(layout.models.iterdir()) if layout.models.is_dir() else ():
        for number in numbers(model):
            path = model / str(number) / SIDE / LINEAGE
            if path.is_file() and read(path, Lineage).run == run:
                found.append(f"{model.name}/{number}")
    return found


def _roles(model: Path, number: int) -> list[tuple[str, Live]]:
    if not (model / LIVE).is_file():
        return []
    live = read(model / LIVE, Live)
    roles = ("live", "canary", "shadow", "previous")
    return [(role, live) for role in roles if getattr(live, role) == number]


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[SettingChange]:
    old, new = dict(flatten(before)), dict(flatten(after))
    return [
        SettingChange(key=key, before=old.get(key), after=new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def flatten(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """List the settings of a config as `train.epochs` and its value."""
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            found.extend(flatten(value, f"{prefix}{key}."))
        else:
            found.append((f"{prefix}{key}", value))
    return found
