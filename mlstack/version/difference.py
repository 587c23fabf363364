"""What one version of the data has and another has not."""

import msgspec

from mlstack.records.base import Record, Result


class Relabelled(Record, frozen=True, kw_only=True, tag="version.relabelled"):
    """A file whose label differs; None is no label."""

    path: str
    before: str | None
    after: str | None


class Renamed(Record, frozen=True, kw_only=True, tag="version.renamed"):
    """A file of the same content under another path."""

    before: str
    after: str


class ClassChange(Record, frozen=True, kw_only=True, tag="version.class"):
    """Labeled files, or rows, of one class on both sides."""

    name: str
    before: int
    after: int
    delta: int = 0
    flag: str = ""  # new: the class was not there before; vanished: it is there no more


class Retyped(Record, frozen=True, kw_only=True, tag="version.retyped"):
    """A column of another type."""

    name: str
    before: str
    after: str


class Cell(Record, frozen=True, kw_only=True, tag="version.cell"):
    """One value that changed, as text; None is missing."""

    column: str
    before: str | None
    after: str | None


class RowChange(Record, frozen=True, kw_only=True, tag="version.row"):
    """A row that changed; `key` holds the values that name it."""

    key: list[str]
    cells: list[Cell]


class TableChange(Record, frozen=True, kw_only=True, tag="version.table"):
    """What changed inside a Parquet or CSV file."""

    path: str
    key: list[str] = msgspec.field(default_factory=list)  # none: rows are compared as wholes
    rows_before: int = 0
    rows_after: int = 0
    rows_added: int = 0
    rows_removed: int = 0
    rows_changed: int = 0
    columns_added: dict[str, str] = msgspec.field(default_factory=dict)  # name -> type
    columns_removed: dict[str, str] = msgspec.field(default_factory=dict)
    columns_retyped: list[Retyped] = msgspec.field(default_factory=list)
    cells_changed: dict[str, int] = msgspec.field(default_factory=dict)  # column -> rows
    rows: list[RowChange] = msgspec.field(default_factory=list)  # the first that changed
    classes_before: dict[str, int] = msgspec.field(default_factory=dict)
    classes_after: dict[str, int] = msgspec.field(default_factory=dict)
    relabelled: list[Relabelled] = msgspec.field(default_factory=list)  # the first of them
    notes: list[str] = msgspec.field(default_factory=list)
    problem: str = ""  # why it could not be compared
    hint: str = ""
    out: str | None = None  # file that holds every row that differs


class Difference(Result, frozen=True, kw_only=True, tag="version.diff"):
    """What one version has and another has not."""

    dataset: str
    before: str
    after: str
    added: list[str] = msgspec.field(default_factory=list)
    removed: list[str] = msgspec.field(default_factory=list)
    changed: list[str] = msgspec.field(default_factory=list)
    renamed: list[Renamed] = msgspec.field(default_factory=list)
    relabelled: list[Relabelled] = msgspec.field(default_factory=list)
    relabelled_count: int = 0  # of the rows of a table, only the first are named
    bytes_added: int | None = None  # None: some of the files are not in the cache
    bytes_removed: int | None = None
    classes: list[ClassChange] = msgspec.field(default_factory=list)
    tables: list[TableChange] = msgspec.field(default_factory=list)
    page: str | None = None  # the contact sheet

    def headline(self) -> str:
        """Give the counts in one line."""
        return (
            f"+{len(self.added)} -{len(self.removed)} ~{len(self.changed)} "
            f"={len(self.renamed)} relabelled {self.relabelled_count}"
        )
