"""What a person reads of the cache's garbage and its trash."""

from mlstack.plurals import counted
from mlstack.version.result import Collected, Emptied, Restored, Spare, Spared
from mlstack.version.words import size

NAMED = 20  # versions that are named; the rest is counted


def draw(record: Spared | Collected | Restored | Emptied) -> str:
    """Say what could be freed, was moved, came back or is gone."""
    match record:
        case Spared():
            return "\n".join(_table(record.versions))
        case Collected():
            return _collected(record)
        case Restored():
            return (
                f"{size(record.size_bytes)} ({_objects(record.objects)}) came back from the trash"
                if record.objects
                else "the trash is empty"
            )
        case Emptied(objects=0):
            left = f"it holds {size(record.trash_bytes)} ({_objects(record.trash_objects)})"
            return f"nothing in the trash is {record.grace_days} days old; {left}"
        case Emptied():
            left = size(record.trash_bytes)
            return (
                f"deleted {size(record.size_bytes)} ({_objects(record.objects)}) that had been in "
                f"the trash for {record.grace_days} days; {left} are left there"
            )


def _collected(record: Collected) -> str:
    amount = f"{size(record.size_bytes)} in {_objects(record.objects)}"
    lines = _table(record.versions)
    if not record.objects:
        every = "all " if record.kept > 1 and not record.unlisted else ""
        needed = counted(record.kept, "object is", "objects are")
        lines.append(f"nothing to free; {every}{needed} needed")
    elif record.moved:
        lines.append(f"moved {amount} to the trash")
        if record.trash_objects:
            lines.append("  hint: `mlstack version gc --restore` brings them back")
    else:
        lines.append(f"{amount} could be freed")
        lines.append(f"  hint: --yes moves them to the trash for {record.grace_days} days")
    if record.unlisted:
        lines.append(f"kept {record.unlisted} more: a version whose list is lost may need them")
        lines.append("  hint: `mlstack version pull REVISION` brings its list back")
    if record.remade_bytes:
        did = "deleted" if record.moved else "could be deleted, with --yes:"
        needed = size(record.remade_needed_bytes)
        lines.append(f"{did} {size(record.remade_bytes)} of decoded inputs; {needed} are needed")
    if record.deleted_bytes:
        lines.append(f"deleted {size(record.deleted_bytes)} that were past their days there")
    if record.trash_objects:
        lines.append(
            f"the trash holds {size(record.trash_bytes)} ({_objects(record.trash_objects)})"
        )
    return "\n".join(lines)


def _objects(count: int) -> str:
    return counted(count, "object")


def _table(versions: list[Spare]) -> list[str]:
    if not versions:
        return []
    lines = [f"{'would free':>10}  {'objects':>7}  version"]
    lines += [
        f"{size(one.size_bytes):>10}  {one.objects:>7}  {_name(one)}" for one in versions[:NAMED]
    ]
    if len(versions) > NAMED:
        rest = versions[NAMED:]
        amount, objects = sum(o.size_bytes for o in rest), sum(o.objects for o in rest)
        lines.append(f"{size(amount):>10}  {objects:>7}  {counted(len(rest), 'more version')}")
    return lines


def _name(one: Spare) -> str:
    if one.md5 is None:
        return "of no version that is known here"
    when = one.date[:16].replace("T", " ")
    if one.revision is None:
        return f"md5 {one.md5[:8]}, {when}, in no commit"
    return f"{one.revision[:7]}, {when}, {one.message}"
