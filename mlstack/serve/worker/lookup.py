"""The features of a row that only names whom it is about, by the code that training used."""

from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from mlstack.inputs.tables import Row
from mlstack.records.package import Signature


class Lookup(Protocol):
    """Feature files, opened: `mlstack.inputs.features.Features`."""

    @property
    def columns(self) -> list[str]:
        """Name the columns that rows get."""
        ...

    def fill(self, rows: list[Row], now: str) -> list[Row]:
        """Give rows the values that were known at their time, or now."""
        ...


def open_lookup(root: Path, signature: Signature) -> Lookup | None:
    """Open the feature files of a model; None for one without features.

    Raises:
        DataError: a file is missing in the project, or lacks a column.
    """
    settings: dict[str, Any] | None = (signature.preprocess or {}).get("features")
    if settings is None:
        return None
    # DuckDB takes 0.1 s to load, which only servers with features should pay.
    features = import_module("mlstack.inputs.features")
    spec = features.FeatureSpec.from_settings(settings)
    return cast("Lookup", features.Features(spec, root / settings["folder"], keep=True))


def filled(lookup: Lookup, rows: list[Row]) -> list[Row]:
    """Fill rows as of now, where they name no time."""
    return lookup.fill(rows, datetime.now(UTC).isoformat())
