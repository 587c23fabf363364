"""Packages on the disk: which one is meant, whether it is whole, which one is live."""

from pathlib import Path
from typing import Any

from mlstack.config import load
from mlstack.errors import DataError
from mlstack.export.handover import Rival
from mlstack.records import base, trusted
from mlstack.records.dataset import EXAMPLES
from mlstack.records.edge import EDGE, Edge, EdgeModel
from mlstack.records.layout import Layout
from mlstack.records.lineage import Lineage
from mlstack.records.package import (
    MODEL,
    SIDE,
    Signature,
    live_package,
    numbers,
    read_live,
)
from mlstack.records.run import RunSpec

LIVE = "live.json"


def find(config: Path, sets: tuple[str, ...], wanted: str | None) -> Path:
    """Resolve a path, `NAME/N`, or None for the newest package of the project.

    Raises:
        DataError: there is none.
    """
    if wanted is not None and Path(wanted).is_dir():
        return Path(wanted)
    if wanted is not None and not config.is_file():
        raise DataError(f"there is no package at `{wanted}`")
    project = load(config, sets=sets)
    models = Layout(project.root).models
    if wanted is None:
        name = project.config.project.name
        known = numbers(models / name)
        if not known:
            raise DataError(f"there is no package of `{name}` yet", hint="type `mlstack export`")
        return _short(models / name / str(known[-1]))
    if (
        not (models / wanted).is_dir()
        or models.resolve() not in (models / wanted).resolve().parents
    ):
        raise DataError(
            f"there is no package `{wanted}`",
            hint="name a folder, or NAME/N as under models/",
        )
    return _short(models / wanted)


def edge(package: Path, name: str) -> list[EdgeModel]:
    """Give a package's models in one format, which may be anybody's.

    Raises:
        DataError: there are none, or one that is no file of the manifest.
    """
    path = package / SIDE / f"{EDGE}.json"
    found = base.read(path, Edge).models if path.is_file() else []
    wanted = [one for one in found if one.format == name]
    if not wanted:
        raise DataError(f"`{package}` has no {name}", hint=f"export the run with `--format {name}`")
    for one in wanted:
        file = one.files[0] if one.files else ""
        is_inside = file.startswith(f"{SIDE}/{EDGE}/") and ".." not in Path(file).parts
        if not is_inside or not (package / file).is_file():
            raise DataError(f"`{file}` of {name} is not a file of the package")
        if one.golden is not None:
            trusted.check_examples(package, one.golden)
            signature = base.read(package / SIDE / "signature.json", Signature)
            trusted.check_answers(package, one.golden, signature)
    return wanted


def live(layout: Layout, model: str) -> Path | None:
    """Find the live package; None when no package is live.

    Raises:
        DataError: it is not there.
    """
    folder = layout.model(model)
    if not (folder / LIVE).is_file():
        return None
    number = read_live(folder / LIVE).live
    return live_package(folder, number) if number is not None else None


def rival(layout: Layout, package: Path, spec: RunSpec) -> Rival:
    """Describe the live package, and what it was trained on."""
    signature = base.read(package / SIDE / "signature.json", Signature)
    lineage = base.read(package / SIDE / "lineage.json", Lineage)
    examples = layout.run(lineage.run) / EXAMPLES
    return Rival(
        number=int(package.name),
        model=str(package / MODEL),
        classes=signature.classes,
        preprocess=signature.preprocess,
        examples=str(examples) if examples.is_file() else None,
        same_split=_split(lineage) == _split(spec),
    )


def _split(origin: Lineage | RunSpec) -> tuple[Any, ...]:
    """Give all that decides which examples are in the test part."""
    data = origin.config["data"]
    return origin.dataset.md5, data["split"], origin.config["project"]["seed"]


def _short(path: Path) -> Path:
    """Name a path as a person here would type it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
