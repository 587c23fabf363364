"""A reference profile that was changed by hand is refused before anything is measured by it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlstack.errors import DataError
from mlstack.records import base
from mlstack.records.reference import NumericColumn, Reference

WHOLE = Reference(
    rows=9,
    origin="val of run r",
    numeric=[NumericColumn(name="width", edges=[1.0, 2.0], counts=[3, 3, 3])],
    accuracy=0.5,
)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"counts": [-3, 3, 3]}, "counts"),
        ({"counts": [10**30, 3, 3]}, "counts"),
        ({"edges": [2.0, 1.0]}, "the edges of `width` do not rise"),
        ({"missing": -1}, "missing"),
    ],
)
def test_counts_and_edges_that_no_data_gives_are_refused(
    tmp_path: Path, changed: dict[str, Any], words: str
) -> None:
    plain = msgspec.to_builtins(WHOLE)
    plain["numeric"][0] |= changed
    path = tmp_path / "reference.json"
    path.write_bytes(msgspec.json.encode(plain))

    with pytest.raises(DataError, match=words):
        base.read(path, Reference)


def test_an_accuracy_above_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    path.write_bytes(msgspec.json.encode(msgspec.to_builtins(WHOLE) | {"accuracy": 1e308}))

    with pytest.raises(DataError, match="accuracy"):
        base.read(path, Reference)
