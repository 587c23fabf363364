"""How the data was divided into parts: `.mlstack/prepared/`, written by the stage `prepare`.

`examples.parquet` has the columns of a run's `examples.parquet`, with `path` below the dataset
folder; `summary.json` says which data and settings it was made from, and what is in each part.
"""

import msgspec

from mlstack.records.base import Record

SUMMARY = "summary.json"


class ClassCount(Record, frozen=True, kw_only=True, tag="prepared.class"):
    """How many examples of a class each part has."""

    name: str
    train: int = 0
    val: int = 0
    test: int = 0


class Prepared(Record, frozen=True, kw_only=True, tag="data.prepared"):
    """A division of one version of the data; it holds for nothing else."""

    dataset: str  # md5 of the folder as DVC writes it
    settings_sha256: str  # of the settings that decide the division, and of mlstack's version
    examples_md5: str  # of examples.parquet beside it
    classes: list[str]
    split: dict[str, int]  # part -> examples
    files: int
    size_bytes: int
    copies: int = 0  # examples whose content another one has too
    counts: list[ClassCount] = msgspec.field(default_factory=list)
