"""The features of a row that only names whom it is about, by the code that training used."""

from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import msgspec

from mlstack.errors import DataError
from mlstack.inputs.tables import Row
from mlstack.records.package import Signature
from mlstack.serve.worker.said import log


class Lookup(Protocol):
    """Feature files, opened: `mlstack.inputs.features.Features`."""

    @property
    def columns(self) -> list[str]:
        """Name the columns that rows get."""
        ...

    def fill(self, rows: list[Row], now: str) -> list[Row]:
        """Give rows the values that were known at their time, or now."""
        ...

    def problems(self) -> list[str]:
        """Give what has gone wrong with files that were replaced, once."""
        ...


class Settings(msgspec.Struct, frozen=True):
    """What a signature says of the feature files; it may be anybody's."""

    folder: str
    key: str
    time: str
    files: list[str]
    ttl: str | None = None


def open_lookup(root: Path, signature: Signature) -> Lookup | None:
    """Open the feature files of a model; None for one without features.

    Raises:
        DataError: a file is missing in the project, lies outside of it, or lacks a column.
    """
    given = (signature.preprocess or {}).get("features")
    if given is None:
        return None
    try:
        settings = msgspec.convert(given, Settings)
    except msgspec.ValidationError as error:
        raise DataError(
            f"the signature's `features` cannot be read: {error}", hint="export the run again"
        ) from error
    for name in (settings.folder, *settings.files):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(
                f"the package looks up features in `{name}`, which may lie outside of the project",
                hint="serve a package whose `data.source` is a folder below the project's",
            )
    # DuckDB takes 0.1 s to load, which only servers with features should pay.
    features = import_module("mlstack.inputs.features")
    spec = features.FeatureSpec.from_settings(msgspec.structs.asdict(settings))
    return cast("Lookup", features.Features(spec, root / settings.folder, keep=True))


def filled(lookup: Lookup, rows: list[Row]) -> list[Row]:
    """Fill rows as of now, where they name no time."""
    found = lookup.fill(rows, datetime.now(UTC).isoformat())
    for problem in lookup.problems():
        log.warning("%s", problem)
    return found
