"""What the commands of `version` answer."""

import msgspec

from mlstack.records.base import Record, Result


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
