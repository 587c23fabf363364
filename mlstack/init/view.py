"""What was made, and what to type next."""

from mlstack import shell
from mlstack.init.api import Created
from mlstack.init.dataset import Copied
from mlstack.plurals import plural
from mlstack.records.base import Record
from mlstack.ui import Bar

WIDTH = 80
SHOWN = 5  # endings of files that were left out
UNITS = {"tabular": "rows", "text-classification": "texts"}


def draw(record: Record) -> str | Bar | None:
    """Draw the progress and the end of `init`."""
    match record:
        case Copied(text=text, done=done, total=total):
            return Bar(text, done, total)
        case Created():
            return _created(record)
    return None


def _created(made: Created) -> str:
    unit = UNITS.get(made.task, "images")
    data = f"{made.images:,} real {unit}, {_size(made.size_bytes)}, {len(made.classes)} classes"
    lines = [f"Created {made.path}/ ({made.task}: {data})", *_wrapped(made.files)]
    if made.label:
        lines.append(_columns(made))
    if made.others:
        count, endings = sum(made.others.values()), ", ".join([*made.others][:SHOWN])
        is_or_are = plural(count, "file is no image and was", "files are no images and were")
        lines.append(f"{count:,} {is_or_are} left out ({endings})")
    waiting = made.images - made.labeled
    if waiting:
        what = plural(waiting, "image waits", "images wait")
        lines.append(f"{waiting:,} {what} for a label; type `mlstack label` there")
    train = "mlstack train" if made.can_train else "pip install 'mlstack[train]' && mlstack train"
    first = "mlstack label" if waiting >= made.labeled else train
    lines.append(f"Next: cd {shell.path(made.path)} && {first}")
    return "\n".join(lines)


def _columns(made: Created) -> str:
    """Say what init took the columns of a table for: it may be wrong."""
    said = f"`{made.label}` is the class" + (f", `{made.text}` the text" if made.text else "")
    if made.ignored:
        said += f"; left out: {', '.join(f'`{name}`' for name in made.ignored)} (data.args.ignore)"
    return said


def _wrapped(names: list[str]) -> list[str]:
    lines = [""]
    for name in names:
        if lines[-1] and len(lines[-1]) + 3 + len(name) > WIDTH:
            lines.append("")
        lines[-1] += ("   " if lines[-1] else "  ") + name
    return lines


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e3:,.0f} kB" if size_bytes < 1e6 else f"{size_bytes / 1e6:,.1f} MB"
