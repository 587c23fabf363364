"""The name of a state of a dataset: what runs, packages and the monitor refer to.

Apart from `dataset.py`, which reads tables: who only asks where a model comes from need not wait
for pyarrow.
"""

import msgspec

from mlstack.records.base import Record


class DatasetVersion(Record, frozen=True, kw_only=True, tag="dataset.version"):
    """A content-addressed state of a dataset, named by a git revision."""

    name: str
    source: str  # folder relative to the project, e.g. data/digits
    md5: str  # of the folder as DVC writes it, ends in .dir; a content hash when dirty
    stored: str | None = None  # of what DVC keeps instead of the folder: its packs or chunks
    revision: str | None = None  # git commit whose NAME.dvc holds this md5
    dirty: bool = False  # differs from the last snapshot, allowed by --allow-dirty
    files: int = 0
    size_bytes: int = 0
    classes: list[str] = msgspec.field(default_factory=list)
    split: dict[str, int] = msgspec.field(default_factory=dict)  # part -> examples
