"""Where a run, a model or a prediction comes from, read from records alone.

Everything here is read without pydantic, pyarrow, dvc or git: the answer takes less time than it
takes to load one of them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from mlstack import files
from mlstack.errors import DataError
from mlstack.records import graph
from mlstack.records.base import decode, read
from mlstack.records.layout import Layout
from mlstack.records.lineage import Embedded, Lineage
from mlstack.records.package import (
    MANIFEST,
    MODEL,
    SIDE,
    Live,
    Manifest,
    Metrics,
    numbers,
    read_live,
)
from mlstack.records.prediction_id import is_one
from mlstack.records.run import SPEC, RunSpec, find_run, run_ids
from mlstack.version import footprint
from mlstack.version.lineage import SettingChange, Shown

LINEAGE = "lineage.json"
METRICS = "metrics.json"
LIVE = "live.json"
HASHED_BYTES = 16 << 20  # a larger graph is told from others by its size and metadata
NOT_EMBEDDED = "the gates and the number stand in the package, which is not here"
ONNX_HINT = "an older mlstack or another tool wrote it; export the run again"


def show(root: Path | None, wanted: str, name: Callable[[], str]) -> Shown:
    """Tell the origin of a run, a package, an ONNX file or a prediction.

    Args:
        root: the project; None outside of one, where a path must be given.
        wanted: a run id, `NAME/N`, `NAME`, `N`, a prediction id, or a path.
        name: the project's own model, asked for only where `N` alone is given.

    Raises:
        DataError: nothing fits `wanted`, or a record is damaged.
    """
    path = Path(wanted)
    if path.is_file() and path.suffix == ".onnx" and _enclosing(path, SIDE, LINEAGE) is None:
        return _of_graph(root, path)
    if root is None:
        package = _enclosing(path, SIDE, LINEAGE)
        if package is None:
            raise DataError(f"`{wanted}` is neither a package nor an ONNX file")
        return _of_package(Layout(package.resolve().parent), package)
    layout = Layout(root)
    if is_one(wanted):
        return _of_prediction(layout, wanted)
    package = find_package(root, wanted, name)
    if package is not None:
        return _of_package(layout, package)
    spec = find_spec(layout, wanted)
    return Shown(model=None, number=None, **_own(spec), **_around(layout, spec))


def find_package(root: Path, wanted: str, name: Callable[[], str]) -> Path | None:
    """Find a package by a path in it, `NAME/N`, `NAME` (what is live, else the newest) or `N`.

    `models/NAME`, as tab completion writes it, is `NAME`.
    """
    enclosing = _enclosing(Path(wanted), SIDE, LINEAGE)
    if enclosing is not None:
        return enclosing
    layout = Layout(root)
    wanted = _below(layout.models, wanted)
    given, _, number = wanted.rpartition("/")
    if number.isdigit():
        model = layout.model(given or name())
        if (model / number / SIDE / LINEAGE).is_file():
            return model / number
    model = layout.model(wanted)
    if wanted and "/" not in wanted and (present := numbers(model)):
        answering = read_live(model / LIVE).live if (model / LIVE).is_file() else None
        return model / str(answering or present[-1])
    return None


def find_spec(layout: Layout, wanted: str) -> RunSpec:
    """Find a run by its id, a part of it, or a path in its folder.

    Raises:
        DataError: none, or several, fit.
    """
    folder = _enclosing(Path(wanted), SPEC)
    if folder is not None:
        return read(folder / SPEC, RunSpec)
    try:
        return read(layout.run(find_run(layout.runs, wanted)) / SPEC, RunSpec)
    except DataError as error:
        raise DataError(
            f"no package is called `{wanted}`, and {error.problem}",
            hint="type `mlstack train ls`, or name a package as NAME/N",
        ) from error


def _of_package(layout: Layout, package: Path, **more: Any) -> Shown:
    lineage = read(package / SIDE / LINEAGE, Lineage)
    metrics = package / SIDE / METRICS
    return Shown(
        model=lineage.model,
        number=lineage.number,
        live=[
            f"{role} since {live.changed}" if role == "live" else role
            for role, live in _roles(package.resolve().parent, lineage.number)
        ],
        gates=read(metrics, Metrics).gates if metrics.is_file() else [],
        checkpoint_sha256=lineage.checkpoint_sha256,
        **_own(lineage),
        **_around(layout, lineage),
        **more,
    )


def _of_prediction(layout: Layout, wanted: str) -> Shown:
    from mlstack.version import served  # noqa: PLC0415  only predictions need an engine for tables

    found = served.find(layout, wanted)
    package = layout.package(found.model, found.version)
    if not (package / SIDE / LINEAGE).is_file():
        raise DataError(
            f"`{wanted}` was answered by {found.model}/{found.version}, which is not here any more",
            hint="bring the package back, e.g. from a backup of `models/`",
        )
    return _of_package(layout, package, prediction=found)


def _of_graph(root: Path | None, path: Path) -> Shown:
    """Read the origin from the graph itself; the project adds what it knows, where there is one.

    Raises:
        DataError: the file is damaged, or nothing in it or here says where it comes from.
    """
    facts = graph.metadata(path)
    run = facts.get(f"{graph.PREFIX}run")
    layout = Layout(root or path.resolve().parent)
    package = _twin(layout, path, run) if run else None
    if package is not None:
        note = f"`{path.name}` is the graph of {package.parent.name}/{package.name}"
        return _of_package(layout, package, notes=[note])
    if graph.LINEAGE not in facts:
        if root is not None and run in run_ids(layout.runs):
            spec = read(layout.run(str(run)) / SPEC, RunSpec)
            return Shown(model=None, number=None, **_own(spec), **_around(layout, spec))
        raise DataError(f"`{path}` does not say where it comes from", hint=ONNX_HINT)
    lineage = decode(facts[graph.LINEAGE].encode(), Embedded, where=str(path))
    return Shown(
        model=lineage.model,
        number=None,
        checkpoint_sha256=lineage.checkpoint_sha256,
        notes=[NOT_EMBEDDED],
        **_own(lineage),
        **_around(layout, lineage),
    )


def _twin(layout: Layout, path: Path, run: str) -> Path | None:
    """Find the package whose graph a file is a copy of."""
    size = path.stat().st_size
    small = size <= HASHED_BYTES
    digest = files.sha256(path) if small else ""
    for name in reversed(_packages(layout, run)):
        package = layout.models / name
        other = package / MODEL
        if not other.is_file() or other.stat().st_size != size:
            continue
        if small and read(package / SIDE / MANIFEST, Manifest).files.get(MODEL) == digest:
            return package
        if not small and graph.metadata(other) == graph.metadata(path):
            return package
    return None


def _own(record: RunSpec | Lineage | Embedded) -> dict[str, Any]:
    """Give the fields of `Shown` that the record itself holds."""
    return {
        "run": record.id if isinstance(record, RunSpec) else record.run,
        "created": record.created,
        "dataset": record.dataset,
        "code": record.code,
        "environment": record.environment,
        "seed": record.seed,
        "config": record.config,
    }


def _around(layout: Layout, record: RunSpec | Lineage | Embedded) -> dict[str, Any]:
    """Give the fields of `Shown` that other records hold."""
    run = record.id if isinstance(record, RunSpec) else record.run
    ids = run_ids(layout.runs)
    other = _before(layout, ids, run, record.parent)
    left = footprint.of_run(layout.run(run)) if run in ids else footprint.Footprint()
    return {
        "metrics": left.metrics,
        "attempts": left.attempts,
        "compared_with": other.id if other else None,
        "settings": _changes(other.config, record.config) if other else [],
        "parents": _parents(layout, record.parent),
        "packages": _packages(layout, run),
    }


def _before(layout: Layout, ids: list[str], run: str, parent: str | None) -> RunSpec | None:
    """Give the run to compare with: the parent, else the newest readable one before."""
    earlier = [parent] if parent in ids else [i for i in reversed(ids) if i < run]
    for one in earlier:
        try:
            return read(layout.run(str(one)) / SPEC, RunSpec)
        except DataError:  # damaged: it is no help, and no hindrance
            continue
    return None


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
            if path.is_file() and _run_of(path) == run:
                found.append(f"{model.name}/{number}")
    return found


def _run_of(lineage: Path) -> str | None:
    """Tell the run of a package; a record that is damaged tells none, and is no hindrance."""
    try:
        return msgspec.json.decode(lineage.read_bytes(), type=_Made).run
    except msgspec.DecodeError:
        return None


class _Made(msgspec.Struct):
    """The one field of a `lineage` that tells its run; the rest is skipped."""

    run: str


def _roles(model: Path, number: int) -> list[tuple[str, Live]]:
    if not (model / LIVE).is_file():
        return []
    live = read_live(model / LIVE)
    roles = ("live", "canary", "shadow", "previous")
    return [(role, live) for role in roles if getattr(live, role) == number]


def _below(models: Path, wanted: str) -> str:
    """Give what is wanted as it is called below `models/`, where it is the path of a folder."""
    path = Path(wanted)
    place, above = path.parent.resolve() / path.name, models.resolve()
    if path.is_dir() and place.is_relative_to(above):
        return place.relative_to(above).as_posix()
    return wanted.rstrip("/")


def _enclosing(path: Path, *inside: str) -> Path | None:
    """Find the folder at or above a path that holds a file."""
    for folder in (path, *path.parents) if path.exists() else ():
        if folder.joinpath(*inside).is_file():
            return folder
    return None


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
