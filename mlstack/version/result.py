"""What the commands of `version` answer."""

from typing import Any

import msgspec

from mlstack.records.base import Record, Result
from mlstack.records.dataset_version import DatasetVersion
from mlstack.records.package import GateResult
from mlstack.records.run import CodeVersion, Environment


class Working(Record, frozen=True, kw_only=True, tag="version.working"):
    """Progress: what is being done."""

    text: str


class Snapshot(Result, frozen=True, kw_only=True, tag="version.snapshot"):
    """A dataset version; `committed` is false when nothing had changed."""

    dataset: str
    md5: str
    revision: str
    files: int
    size_bytes: int
    committed: bool
    added: int | None = None  # None: the version before is not in the cache
    removed: int | None = None
    changed: int | None = None
    better_layout: str | None = None  # packs or chunks, where they would help
    on_branch: bool = True  # else only its number leads to it, and git forgets it some day

    def headline(self) -> str:
        """Give the revision."""
        return self.revision


class LogEntry(Record, frozen=True, kw_only=True, tag="version.entry"):
    """One version in git's history."""

    revision: str
    date: str  # ISO 8601
    author: str
    message: str
    md5: str
    files: int
    size_bytes: int
    classes: dict[str, int] | None = None  # None: its labels are not in the cache


class Log(Result, frozen=True, kw_only=True, tag="version.log"):
    """The versions of a dataset, newest first."""

    dataset: str
    versions: list[LogEntry]
    current: str | None = None  # md5 that the pointer in the working tree names

    def headline(self) -> str:
        """Give the newest revision."""
        return self.versions[0].revision if self.versions else ""


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


class Finding(Record, frozen=True, kw_only=True, tag="version.finding"):
    """Something about the data that is wrong, or that a person should look at."""

    name: str  # e.g. new-class; findings of one name are of one sort
    problem: str
    hint: str = ""
    where: str = ""
    suspicion: bool = False  # may be as it should be; alone, it fails nothing


class CheckedData(Result, frozen=True, kw_only=True, tag="version.checked"):
    """The data is as the project asks; anything else is an error."""

    dataset: str
    files: int
    labeled: int
    unlabeled: int
    classes: dict[str, int]
    notes: list[Finding] = msgspec.field(default_factory=list)
    schema: str | None = None  # file that the data was held against, or that was written
    learned: bool = False  # it was written now
    accepted: list[Finding] = msgspec.field(default_factory=list)  # what the new schema allows

    def headline(self) -> str:
        """Say that all is well."""
        return "ok"


class CheckedOut(Result, frozen=True, kw_only=True, tag="version.checkout"):
    """The folder holds another version."""

    dataset: str
    revision: str
    md5: str
    files: int
    newest: bool  # HEAD names this version
    packed: bool = False  # its files stay in their packs

    def headline(self) -> str:
        """Give the revision."""
        return self.revision


class Transferred(Result, frozen=True, kw_only=True, tag="version.transferred"):
    """Objects went to or came from the remote."""

    dataset: str
    direction: str  # push or pull
    remote: str
    objects: int
    size_bytes: int | None = None  # None: DVC's own code copied them
    asked: bool = True  # false: there is no remote, and nothing was lacking

    def headline(self) -> str:
        """Give the number of objects."""
        return str(self.objects)


class SourceCopied(Result, frozen=True, kw_only=True, tag="version.source"):
    """The folder of the data holds what its source does."""

    dataset: str
    source: str
    folder: str
    files: int
    copied: int
    removed: int
    size_bytes: int  # that were moved
    rows: int | None = None  # of a table or a query; None for files

    def headline(self) -> str:
        """Give the number of files that were copied."""
        return str(self.copied)


class SettingChange(Record, frozen=True, kw_only=True, tag="version.setting"):
    """A setting that differs from the run before."""

    key: str
    before: Any = None
    after: Any = None


class Predicted(Record, frozen=True, kw_only=True, tag="version.prediction"):
    """A served prediction."""

    id: str
    at: str  # when it was answered, UTC, ISO 8601
    model: str
    version: int
    route: str
    status: int
    latency_us: int
    prediction: str | None = None
    confidence: float | None = None
    label: str | None = None  # what came as feedback, the latest


class Shown(Result, frozen=True, kw_only=True, tag="version.shown"):
    """Where a run or a model package comes from, and what came of it."""

    model: str | None
    number: int | None
    run: str
    created: str
    dataset: DatasetVersion
    code: CodeVersion
    environment: Environment
    seed: int
    config: dict[str, Any]
    metrics: dict[str, float] = msgspec.field(default_factory=dict)
    compared_with: str | None = None  # run whose config `settings` is compared with
    settings: list[SettingChange] = msgspec.field(default_factory=list)
    parents: list[str] = msgspec.field(default_factory=list)  # nearest first
    packages: list[str] = msgspec.field(default_factory=list)  # NAME/N made from this run
    live: list[str] = msgspec.field(default_factory=list)  # where it answers, e.g. "digits: live"
    gates: list[GateResult] = msgspec.field(default_factory=list)  # that the package passed
    prediction: Predicted | None = None  # the one that was asked for
    attempts: int | None = None  # times the run was started; over 1 it was resumed
    checkpoint_sha256: str | None = None  # of the checkpoint that the package was made of
    notes: list[str] = msgspec.field(default_factory=list)

    def headline(self) -> str:
        """Give the run."""
        return self.run


class MetricPair(Record, frozen=True, kw_only=True, tag="version.metric"):
    """A final metric of both runs."""

    name: str
    first: float | None
    again: float | None


class Divergence(Record, frozen=True, kw_only=True, tag="version.divergence"):
    """Something that is not as it was when the run was trained first."""

    of: str  # data, code, config, seed, library, machine, tensor or metric
    name: str
    detail: str


class Reproduced(Result, frozen=True, kw_only=True, tag="version.reproduced"):
    """A run trained again from its lineage."""

    run: str
    again: str
    weights_equal: bool
    metrics: list[MetricPair]
    folder: str
    exact: bool = True  # same machine, libraries, no GPU: nothing less than equal bits will do
    tolerance: float = 0.0
    differences: list[Divergence] = msgspec.field(default_factory=list)

    def levels(self) -> dict[str, bool]:
        """Tell which levels were reached, from the lowest to the highest."""
        kinds = {one.of for one in self.differences}
        return {
            "data-identical": "data" not in kinds,
            "code-identical": not kinds & {"code", "config", "seed"},
            "metric-equal": all(self._near(pair) for pair in self.metrics),
            "bit-equal": self.weights_equal,
        }

    def same(self) -> bool:
        """Tell whether the same model came out, as far as can be asked here."""
        reached = self.levels()
        if self.exact:
            return all(reached.values()) and all(p.first == p.again for p in self.metrics)
        return reached["data-identical"] and reached["code-identical"] and reached["metric-equal"]

    def headline(self) -> str:
        """Name the highest level that was reached with all below it."""
        highest = "different"
        for name, is_reached in self.levels().items():
            if not is_reached:
                break
            highest = name
        return highest

    def exit_code(self) -> int:
        """Give 1 when the runs differ."""
        return 0 if self.same() else 1

    def _near(self, pair: MetricPair) -> bool:
        if pair.first is None or pair.again is None:
            return False
        return abs(pair.first - pair.again) <= self.tolerance * max(1.0, abs(pair.first))


class Spare(Record, frozen=True, kw_only=True, tag="version.spare"):
    """Objects that nothing needs, of one version; those of no list have no `md5`."""

    md5: str | None
    objects: int
    size_bytes: int
    revision: str | None = None  # None: no commit that git has here names it
    message: str = ""
    date: str = ""  # ISO 8601, of the commit, else of the list of files


class Spared(Record, frozen=True, kw_only=True, tag="version.spared"):
    """What could be freed."""

    versions: list[Spare]
    objects: int
    size_bytes: int


class Collected(Result, frozen=True, kw_only=True, tag="version.gc"):
    """Objects of the cache that nothing needs: shown, or moved to the trash."""

    objects: int
    size_bytes: int
    kept: int
    moved: bool
    versions: list[Spare] = msgspec.field(default_factory=list)
    grace_days: int = 0
    deleted_bytes: int = 0  # that were in the trash for longer than the grace period
    trash_objects: int = 0
    trash_bytes: int = 0
    remade_bytes: int = 0  # of decoded images and joined tables, which are made again when missed
    remade_needed_bytes: int = 0
    unlisted: int = 0  # kept because the list of a version, which may name them, is not here

    def headline(self) -> str:
        """Give the bytes."""
        return str(self.size_bytes)


class Restored(Result, frozen=True, kw_only=True, tag="version.restored"):
    """The trash is empty; the cache has its objects again."""

    objects: int
    size_bytes: int

    def headline(self) -> str:
        """Give the number of objects."""
        return str(self.objects)


class Emptied(Result, frozen=True, kw_only=True, tag="version.emptied"):
    """What was in the trash for longer than the grace period is gone."""

    objects: int
    size_bytes: int
    trash_objects: int
    trash_bytes: int
    grace_days: int

    def headline(self) -> str:
        """Give the bytes."""
        return str(self.size_bytes)


class Conflict(Record, frozen=True, kw_only=True, tag="version.conflict"):
    """What both sides of a merge changed, differently."""

    path: str  # of a file, or of a row of the labels
    ours: str
    theirs: str


class MergedPointer(Result, frozen=True, kw_only=True, tag="version.merged"):
    """A `.dvc` file merged by path; where it conflicts, ours is kept."""

    path: str
    ours: int = 0  # files that only our side changed
    theirs: int = 0
    conflicts: list[Conflict] = msgspec.field(default_factory=list)
    by_line: bool = False  # it names no folder, so it was merged as text
    lines: int = 0  # conflicts in the text
    others: list[str] = msgspec.field(default_factory=list)  # more pointers in conflict

    def headline(self) -> str:
        """Give the number of conflicts."""
        return str(len(self.conflicts) + self.lines)

    def exit_code(self) -> int:
        """Give 1, which git takes for a conflict, when something is left to a person."""
        return 1 if self.conflicts or self.lines else 0


class Verified(Result, frozen=True, kw_only=True, tag="version.verified"):
    """Every cached object of every version has the content that its name says."""

    versions: int
    objects: int
    size_bytes: int
    absent: int = 0  # objects of older versions that are not in the cache
    mended: int = 0  # damaged or missing ones that were replaced

    def headline(self) -> str:
        """Say that all is well."""
        return "ok"


class Counted(Record, frozen=True, kw_only=True, tag="version.counted"):
    """Progress: how far something is."""

    text: str
    done: int
    total: int
    unit: str = "files"  # or "bytes"


class Moving(Record, frozen=True, kw_only=True, tag="version.moving"):
    """Progress: how much of a transfer is done."""

    text: str
    done: int
    total: int
    done_bytes: int
    total_bytes: int
    bytes_per_s: float
    share: float  # of the time that it will take, about


class Read(Record, frozen=True, kw_only=True, tag="version.read"):
    """Progress: how many rows have come; nobody knows how many there are."""

    rows: int
