"""What a person reads of versions."""

from mlstack.plurals import counted, plural
from mlstack.records.base import Record
from mlstack.ui import Bar
from mlstack.version import check_view, diff_view, freed, origin, repeated, result, torn
from mlstack.version.difference import Difference
from mlstack.version.lineage import Reproduced, Shown
from mlstack.version.result import Log, LogEntry, Snapshot
from mlstack.version.words import size


def draw(record: Record) -> str | Bar | None:
    """Turn a record into text."""
    match record:
        case Snapshot():
            return _snapshot(record)
        case Log():
            return _log(record)
        case Difference():
            return diff_view.draw(record)
        case Shown():
            return origin.draw(record)
        case Reproduced():
            return repeated.draw(record)
        case result.Spared() | result.Collected() | result.Restored() | result.Emptied():
            return freed.draw(record)
        case result.MergedPointer():
            return torn.draw(record)
        case _:
            return _progress(record) or _small(record)


def _progress(record: Record) -> str | Bar | None:
    match record:
        case result.Working():
            return record.text
        case result.Counted():
            return Bar(record.text, record.done, record.total, record.unit)
        case result.Moving():
            return Bar(record.text, record.done_bytes, record.total_bytes, "bytes")
        case result.Read():
            return Bar("rows", record.rows)
    return None


def _small(record: Record) -> str | None:
    match record:
        case result.CheckedData():
            return check_view.draw(record)
        case result.CheckedOut():
            hint = "\n  hint: `mlstack version snapshot -m MESSAGE` makes it the newest version"
            holds = "is packed at" if record.packed else "holds"
            return (
                f"{record.dataset} {holds} version {record.revision[:7]} "
                f"({counted(record.files, 'file')}, md5 {record.md5[:8]}); the code stays as it was"
                f"{'' if record.newest else hint}"
            )
        case result.Transferred(asked=False):
            return f"{record.dataset}: everything is here already; no remote is configured"
        case result.Transferred():
            verb = "to" if record.direction == "push" else "from"
            moved = "" if record.size_bytes is None else f" ({size(record.size_bytes)})"
            what = (
                f"{counted(record.objects, 'object')}{moved}"
                if record.objects
                else f"nothing new{moved}"
            )
            return f"{record.dataset}: {record.direction}ed {what} {verb} {_remote(record.remote)}"
        case result.SourceCopied():
            return _copied(record)
        case result.Verified():
            absent = f"; {record.absent} of older versions are not here" if record.absent else ""
            mended = f"; {record.mended} were mended" if record.mended else ""
            return (
                f"{counted(record.objects, 'object')} of {record.versions} "
                f"{plural(record.versions, 'version')} {plural(record.objects, 'is', 'are')} whole "
                f"({size(record.size_bytes)}){absent}{mended}"
            )
    return None


def _remote(name: str) -> str:
    return name or "the remote of DVC"


WHY = {
    "packs": "keeps so many small files in a few large ones, which move much faster",
    "chunks": "keeps only what changes in a large file, not the whole of it again",
}


def _snapshot(record: Snapshot) -> str:
    what = f"{counted(record.files, 'file')}, {size(record.size_bytes)}, md5 {record.md5[:8]}"
    if not record.committed:
        return f"{record.dataset}: nothing changed since {record.revision[:7]} ({what})"
    changes = ""
    if record.added is not None:
        changes = f"\n  {record.added} added, {record.removed} removed, {record.changed} changed"
    if record.better_layout:
        why = WHY[record.better_layout]
        changes += f"\n  hint: `versioning: {{layout: {record.better_layout}}}` {why}"
    if not record.on_branch:
        changes += "\n  hint: no branch holds this commit; `git switch -c NAME` makes one that does"
    return f"{record.dataset}: version {record.revision[:7]} ({what}){changes}"


def _log(record: Log) -> str:
    if not record.versions:
        return "no versions yet; type `mlstack version snapshot -m MESSAGE`"
    return "\n".join(_entry(entry, record.current) for entry in record.versions)


def _entry(entry: LogEntry, current: str | None) -> str:
    mark = "*" if entry.md5 == current else " "
    counts = (
        f"{sum(entry.classes.values())} labeled, {len(entry.classes)} classes"
        if entry.classes is not None
        else "labels not in the cache"
    )
    return (
        f"{mark} {entry.revision[:7]}  {entry.date[:16].replace('T', ' ')}  {entry.message}\n"
        f"    md5 {entry.md5[:8]}  {counted(entry.files, 'file')}  "
        f"{size(entry.size_bytes)}  {counts}"
    )


def _copied(record: result.SourceCopied) -> str:
    if record.rows is not None and not record.copied:
        rows = counted(record.rows, "row")
        return f"{record.folder} is what {record.source} gives: {rows}, as before"
    removed = f", {record.removed} removed" if record.removed else ""
    held = counted(record.files, "file")
    if not record.copied and not removed:
        return f"{record.folder} is what {record.source} holds: {held}, 0 B moved"
    what = f"{record.copied} of {held}" if record.rows is None else ""
    return (
        f"{record.folder}: copied {what or counted(record.rows or 0, 'row')} "
        f"({size(record.size_bytes)}){removed} from {record.source}\n"
        "  hint: `mlstack version snapshot -m MESSAGE` makes it a version"
    )
