"""What the data of a project is like: learned once, committed, held against what comes later.

`data/NAME.schema.json` lies beside `data/NAME.dvc` and is kept by git, so a change of what is
allowed is a commit that people can read. Limits may be edited by hand.
"""

from pathlib import Path

import msgspec

from mlstack.records.base import Record


class ColumnSchema(Record, frozen=True, kw_only=True, tag="data.column"):
    """A column of a table: what its values may be, and how they lay when it was learned."""

    type: str  # integer, number, text, truth or empty
    missing: float = 0.0  # share of the rows
    low: float | None = None  # least that is allowed
    high: float | None = None
    mean: float | None = None
    deviation: float | None = None
    values: list[str] | None = None  # of a text: all that are allowed; null is any


class ImagesSchema(Record, frozen=True, kw_only=True, tag="data.images"):
    """The images of a dataset: pixels from least to most, and modes as Pillow names them."""

    width: tuple[int, int]
    height: tuple[int, int]
    modes: list[str]


class DataSchema(Record, frozen=True, kw_only=True, tag="data.schema"):
    """What the data of one version was like."""

    dataset: str
    md5: str  # of the version it was learned from
    examples: int
    classes: dict[str, float]  # share of the examples
    columns: dict[str, ColumnSchema] = msgspec.field(default_factory=dict)
    images: ImagesSchema | None = None


def schema_path(source: Path) -> Path:
    """Give the place of the schema of a dataset folder."""
    return source.with_name(f"{source.name}.schema.json")
