"""What the commands of `version` answer."""

from typing import Any

import msgspec

from mlstack.records.base import Record, Result
from mlstack.records.dataset import DatasetVersion
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


class ClassChange(Record, frozen=True, kw_only=True, tag="version.class"):
    """Labeled files of one class on both sides."""

    name: str
    before: int
    after: int


class Difference(Result, frozen=True, kw_only=True, tag="version.diff"):
    """What one version has and another has not."""

    dataset: str
    before: str
    after: str
    added: list[str] = msgspec.field(default_factory=list)
    removed: list[str] = msgspec.field(default_factory=list)
    changed: list[str] = msgspec.field(default_factory=list)
    relabelled: list[Relabelled] = msgspec.field(default_factory=list)
    classes: list[ClassChange] = msgspec.field(default_factory=list)

    def headline(self) -> str:
        """Give the counts in one line."""
        return (
            f"+{len(self.added)} -{len(self.removed)} ~{len(self.changed)} "
            f"relabelled {len(self.relabelled)}"
        )


class CheckedData(Result, frozen=True, kw_only=True, tag="version.checked"):
    """The data is as the project asks; anything else is an error."""

    dataset: str
    files: int
    labeled: int
    unlabeled: int
    classes: dict[str, int]
    notes: list[str] = msgspec.field(default_factory=list)

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

    def headline(self) -> str:
        """Give the run."""
        return self.run


class MetricPair(Record, frozen=True, kw_only=True, tag="version.metric"):
    """A final metric of both runs."""

    name: str
    first: float | None
    again: float | None


class Reproduced(Result, frozen=True, kw_only=True, tag="version.reproduced"):
    """A run trained again from its lineage."""

    run: str
    again: str
    weights_equal: bool
    metrics: list[MetricPair]
    folder: str

    def same(self) -> bool:
        """Tell whether both runs ended with the same weights and the same metrics."""
        return self.weights_equal and all(pair.first == pair.again for pair in self.metrics)

    def headline(self) -> str:
        """Say whether it is the same."""
        return "same" if self.same() else "different"

    def exit_code(self) -> int:
        """Give 1 when the runs differ."""
        return 0 if self.same() else 1


class Collected(Result, frozen=True, kw_only=True, tag="version.gc"):
    """Objects of the cache that nothing needs."""

    objects: int
    size_bytes: int
    kept: int
    deleted: bool

    def headline(self) -> str:
        """Give the bytes."""
        return str(self.size_bytes)


class Verified(Result, frozen=True, kw_only=True, tag="version.verified"):
    """Every cached object of every version has the content that its name says."""

    versions: int
    objects: int
    size_bytes: int
    absent: int = 0  # objects of older versions that are not in the cache

    def headline(self) -> str:
        """Say that all is well."""
        return "ok"


class Counted(Record, frozen=True, kw_only=True, tag="version.counted"):
    """Progress: how far something is."""

    text: str
    done: int
    total: int


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
