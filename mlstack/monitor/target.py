"""Which model is watched, and what it is compared with."""

import re
from dataclasses import dataclass
from pathlib import Path

from mlstack.config import Project
from mlstack.config.kinds import NAME
from mlstack.errors import DataError
from mlstack.records import package
from mlstack.records.base import read
from mlstack.records.layout import Layout
from mlstack.records.reference import Reference


@dataclass(frozen=True)
class Target:
    """The live package of a model and its reference profile."""

    model: str
    version: int
    package: Path
    reference: Reference


def find(project: Project, model: str | None) -> Target:
    """Find the live package of `model`, or of the project's own model.

    Raises:
        DataError: there is no package, none is live, or its reference profile is damaged.
    """
    name = model or project.config.project.name
    layout = Layout(project.root)
    folder = layout.model(name)
    if not re.fullmatch(NAME, name) or not package.numbers(folder):
        raise DataError(
            f"there is no package of the model `{name}`",
            hint=f"there is {_others(layout)}" if model else "type `mlstack export` first",
        )
    version = live_version(folder)
    place = layout.package(name, version)
    reference = read(place / package.SIDE / "reference.json", Reference)
    _refuse_damaged(reference, place)
    return Target(name, version, place, reference)


def _others(layout: Layout) -> str:
    folders = sorted(layout.models.glob("*")) if layout.models.is_dir() else []
    names = [folder.name for folder in folders if package.numbers(folder)]
    return ", ".join(names) or "none yet: type `mlstack export` first"


def live_version(folder: Path) -> int:
    """Give the number of a model's live package.

    Raises:
        DataError: no package is live, or the live one is gone.
    """
    live = folder / "live.json"
    number = package.read_live(live).live if live.is_file() else None
    if number is None:
        raise DataError(
            f"no package of the model `{folder.name}` is live",
            hint="type `mlstack serve`, which puts the newest one live",
        )
    if not (folder / str(number)).is_dir():
        raise DataError(
            f"the live package `{folder / str(number)}` is gone",
            hint="type `mlstack serve rollback` or `mlstack serve promote`",
        )
    return number


def _refuse_damaged(reference: Reference, place: Path) -> None:
    for column in reference.numeric:
        if len(column.counts) != len(column.edges) + 1:
            raise DataError(
                f"column `{column.name}` of the reference profile has {len(column.counts)} counts "
                f"for {len(column.edges)} edges",
                hint="export the run again",
                where=str(place / package.SIDE / "reference.json"),
            )
