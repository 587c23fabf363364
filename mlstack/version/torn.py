"""What a person reads of a merge of data."""

from mlstack.plurals import counted
from mlstack.version.result import MergedPointer

NAMED = 20  # conflicts that are named; the rest is counted


def draw(record: MergedPointer) -> str:
    """Say what was merged, name each conflict, and what to type."""
    if record.by_line:
        verdict = (
            f"{counted(record.lines, 'conflict is', 'conflicts are')} marked in it"
            if record.lines
            else "merged"
        )
        return f"{record.path}: merged line by line, as a text; {verdict}"
    if not record.conflicts:
        rest = "".join(f"\n  next: `mlstack version resolve` for {name}" for name in record.others)
        return (
            f"{record.path}: merged {counted(record.ours, 'file')} of ours and {record.theirs} of "
            "theirs\n"
            f"  hint: after the commit, `mlstack version checkout HEAD` lays the files out{rest}"
        )
    count = len(record.conflicts)
    lines = [f"{record.path}: {counted(count, 'conflict')}; ours is kept for now"]
    lines += [f"  ! {c.path}: ours {c.ours}; theirs {c.theirs}" for c in record.conflicts[:NAMED]]
    if count > NAMED:
        lines.append(f"  ... and {count - NAMED} more")
    lines.append("  hint: `mlstack version resolve --ours`, or `--theirs`, then `git commit`")
    return "\n".join(lines)
