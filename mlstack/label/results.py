"""What the commands of the room answer."""

import msgspec

from mlstack.records.base import Record, Result


class PairAgreement(Record, frozen=True, kw_only=True, tag="label.agreement"):
    """How far two annotators concur on the items that both labeled."""

    first: str
    second: str
    shared: int
    agreement: float
    kappa: float


class AnnotatorStats(Record, frozen=True, kw_only=True, tag="label.annotator"):
    """What one annotator did."""

    name: str
    labels: int  # that stand
    skipped: int
    undone: int
    median_seconds: float | None = None  # an item was looked at
    classes: dict[str, int] = msgspec.field(default_factory=dict)


class LabelStats(Result, frozen=True, kw_only=True, tag="label.stats"):
    """Labels by class, by annotator and by pair of annotators."""

    total: int
    labeled: int
    classes: dict[str, int]
    annotators: list[AnnotatorStats]
    agreement: list[PairAgreement]

    def headline(self) -> str:
        """Give the number of labeled items."""
        return str(self.labeled)


class LabelsChecked(Result, frozen=True, kw_only=True, tag="label.checked"):
    """Every label is one of the classes, has its file, and annotators concur."""

    labeled: int
    total: int
    classes: dict[str, int]
    agreement: list[PairAgreement] = msgspec.field(default_factory=list)
    not_judged: list[PairAgreement] = msgspec.field(default_factory=list)  # share too few items

    def headline(self) -> str:
        """Give `ok`."""
        return "ok"


class LabelsExported(Result, frozen=True, kw_only=True, tag="label.exported"):
    """A labels file was written."""

    file: str
    format: str
    rows: int
    new: int
    changed: int
    withdrawn: int
    classes: dict[str, int]
    tied: list[str] = msgspec.field(default_factory=list)
    left_out: list[str] = msgspec.field(default_factory=list)  # file gone, or no such class
    gone: int = 0  # labels that are kept, though their file is gone

    def headline(self) -> str:
        """Give the file."""
        return self.file


class LabelsImported(Result, frozen=True, kw_only=True, tag="label.imported"):
    """Labels from elsewhere became events of the annotator `import`."""

    file: str
    format: str
    imported: int
    unchanged: int
    refused: list[str] = msgspec.field(default_factory=list)

    def headline(self) -> str:
        """Give the number of imported labels."""
        return str(self.imported)


class LabelsRebuilt(Result, frozen=True, kw_only=True, tag="label.rebuilt"):
    """The events were checked, and repaired where they were damaged."""

    events: int
    damage: str = ""  # "" when the file was whole
    kept_as: str = ""  # where the damaged file lies now
    missing: int = 0  # gaps in the sequence of the events that could be read
    exported: LabelsExported | None = None

    def headline(self) -> str:
        """Give the number of events."""
        return str(self.events)


class LabelingEnded(Result, frozen=True, kw_only=True, tag="label.ended"):
    """The labeling server was stopped; everything acknowledged is on the disk."""

    events: int  # of this session
    labeled: int
    total: int

    def headline(self) -> str:
        """Give the number of events of this session."""
        return str(self.events)
