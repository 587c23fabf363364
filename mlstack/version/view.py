"""What a person reads of versions."""

from textwrap import wrap
from typing import Any

from mlstack.records.base import Record
from mlstack.ui import Bar
from mlstack.version import result
from mlstack.version.result import Difference, Log, LogEntry, Reproduced, Shown, Snapshot

NAMED = 10  # paths that are named; the rest is counted


def draw(record: Record) -> str | Bar | None:
    """Turn a record into text."""
    match record:
        case result.Working():
            return record.text
        case result.Counted():
            return Bar(record.text, record.done, record.total)
        case result.Moving():
            amount = f"{size(record.done_bytes)} of {size(record.total_bytes)}"
            count = f"{record.text} {record.done} of {record.total}"
            text = f"{count}, {amount}, {size(int(record.bytes_per_s))}/s"
            return Bar(text, round(100 * record.share), 100)
        case result.Read():
            return Bar("rows", record.rows)
        case Snapshot():
            return _snapshot(record)
        case Log():
            return _log(record)
        case Difference():
            return _difference(record)
        case Shown():
            return _shown(record)
        case Reproduced():
            return _reproduced(record)
        case _:
            return _small(record)


def _small(record: Record) -> str | None:
    match record:
        case result.CheckedData():
            counts = ", ".join(f"{name}: {count}" for name, count in record.classes.items())
            notes = "".join(f"\n  note: {note}" for note in record.notes)
            return (
                f"{record.dataset}: {record.files} files, {record.labeled} labeled, all in order\n"
                f"  {counts}{notes}"
            )
        case result.CheckedOut():
            hint = "\n  hint: `mlstack version snapshot -m MESSAGE` makes it the newest version"
            return (
                f"{record.dataset} holds version {record.revision[:7]} "
                f"({record.files} files, md5 {record.md5[:8]}); the code stays as it was"
                f"{'' if record.newest else hint}"
            )
        case result.Transferred(asked=False):
            return f"{record.dataset}: everything is here already; no remote is configured"
        case result.Transferred():
            verb = "to" if record.direction == "push" else "from"
            moved = "" if record.size_bytes is None else f" ({size(record.size_bytes)})"
            what = f"{record.objects} objects{moved}" if record.objects else f"nothing new{moved}"
            return f"{record.dataset}: {record.direction}ed {what} {verb} {_remote(record.remote)}"
        case result.SourceCopied():
            return _copied(record)
        case result.Collected():
            return _collected(record)
        case result.Verified():
            absent = f"; {record.absent} of older versions are not here" if record.absent else ""
            return (
                f"{record.objects} objects of {record.versions} versions are whole "
                f"({size(record.size_bytes)}){absent}"
            )
    return None


def size(size_bytes: int) -> str:
    """Write a number of bytes for people."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def _remote(name: str) -> str:
    return name or "the remote of DVC"


def _snapshot(record: Snapshot) -> str:
    what = f"{record.files} files, {size(record.size_bytes)}, md5 {record.md5[:8]}"
    if not record.committed:
        return f"{record.dataset}: nothing changed since {record.revision[:7]} ({what})"
    changes = ""
    if record.added is not None:
        changes = f"\n  {record.added} added, {record.removed} removed, {record.changed} changed"
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
        f"    md5 {entry.md5[:8]}  {entry.files} files  {size(entry.size_bytes)}  {counts}"
    )


def _difference(record: Difference) -> str:
    lines = [f"{record.dataset}: {record.before} -> {record.after}"]
    for sign, name, paths in (
        ("+", "added", record.added),
        ("-", "removed", record.removed),
        ("~", "changed", record.changed),
    ):
        if paths:
            lines.append(f"  {len(paths)} {name}")
            lines.extend(f"    {sign} {path}" for path in paths[:NAMED])
            lines.extend(_more(len(paths)))
    if record.relabelled:
        lines.append(f"  {len(record.relabelled)} relabelled")
        for item in record.relabelled[:NAMED]:
            before, after = item.before or "(none)", item.after or "(none)"
            lines.append(f"    {item.path}: {before} -> {after}")
        lines.extend(_more(len(record.relabelled)))
    if len(lines) == 1:
        return f"{lines[0]}: no difference"
    width = max((len(c.name) for c in record.classes), default=0)
    lines.append("  labeled files of each class")
    lines.extend(
        f"    {c.name:<{width}}  {c.before:>7} -> {c.after:>7}  {c.after - c.before:+d}"
        for c in record.classes
    )
    return "\n".join(lines)


def _more(count: int) -> list[str]:
    return [f"    ... and {count - NAMED} more"] if count > NAMED else []


def _collected(record: result.Collected) -> str:
    if not record.objects:
        return f"nothing to free; all {record.kept} objects are needed"
    if record.deleted:
        return f"freed {size(record.size_bytes)} ({record.objects} objects)"
    return (
        f"{size(record.size_bytes)} in {record.objects} objects could be freed\n"
        "  hint: repeat with --yes to delete them"
    )


def _copied(record: result.SourceCopied) -> str:
    if record.rows is not None and not record.copied:
        return f"{record.folder} is what {record.source} gives: {record.rows} rows, as before"
    removed = f", {record.removed} removed" if record.removed else ""
    if not record.copied and not removed:
        return f"{record.folder} is what {record.source} holds: {record.files} files, 0 B moved"
    what = f"{record.copied} of {record.files} files" if record.rows is None else ""
    return (
        f"{record.folder}: copied {what or f'{record.rows} rows'} "
        f"({size(record.size_bytes)}){removed} from {record.source}\n"
        "  hint: `mlstack version snapshot -m MESSAGE` makes it a version"
    )


def _shown(record: Shown) -> str:
    name = f"{record.model}/{record.number}" if record.model else f"run {record.run}"
    data, code = record.dataset, record.code
    lines = [
        f"{name}" + (f"  ({'; '.join(record.live)})" if record.live else ""),
        f"|- run      {record.run}, {record.created}, seed {record.seed}",
        f"|- data     {data.source}, md5 {data.md5}, {data.files} files",
        f"|           revision {data.revision or '(none)'}"
        + (" (dirty: in no snapshot)" if data.dirty else ""),
        f"|- code     commit {code.commit or '(none)'}"
        + (f" + {code.diff_file or 'changes'}" if code.dirty else ""),
    ]
    lines.extend(_settings(record))
    packages = record.environment.packages
    named = ", ".join(f"{name} {packages[name]}" for name in sorted(packages))
    lines.append(f"|- machine  Python {record.environment.python}, {record.environment.platform}")
    lines.extend(f"|           {part}" for part in wrap(named or "no library versions", 66))
    metrics = ", ".join(f"{key} {value:.4g}" for key, value in sorted(record.metrics.items()))
    first, *others = wrap(metrics or "(none)", 66)
    lines += [f"|- metrics  {first}", *(f"|           {part}" for part in others)]
    lines.append(f"|- parents  {' <- '.join(record.parents) or '(none)'}")
    lines.append(f"`- packages {', '.join(record.packages) or '(none)'}")
    return "\n".join(lines)


def _settings(record: Shown) -> list[str]:
    if record.compared_with is None:
        return ["|- config   (first run; nothing to compare with)"]
    if not record.settings:
        return [f"|- config   as in {record.compared_with}"]
    changes = [f"|           {s.key}: {s.before} -> {s.after}" for s in record.settings]
    return [f"|- config   against {record.compared_with}:", *changes]


def _reproduced(record: Reproduced) -> str:
    verdict = "the same" if record.same() else "different"
    lines = [f"{record.run} trained again as {record.again}: {verdict}"]
    lines.append(f"  weights: {'equal, bit for bit' if record.weights_equal else 'different'}")
    for pair in record.metrics:
        sign = "=" if pair.first == pair.again else "!"
        lines.append(f"  {sign} {pair.name}: {_number(pair.first)}, again {_number(pair.again)}")
    if not record.same():
        lines.append(f"  the second run is in {record.folder}")
    return "\n".join(lines)


def _number(value: Any) -> str:
    return "(none)" if value is None else f"{value:.6g}"
