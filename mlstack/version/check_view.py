"""What a person reads of data that passed its check."""

from collections import Counter
from collections.abc import Iterator

from mlstack.plurals import counted
from mlstack.printable import printable
from mlstack.version.result import CheckedData, Finding

NAMED = 5  # notes of one sort that are told; the rest is counted
CLASSES = 30
USUAL = ("unlabeled-files", "copies")  # notes that need nobody's attention


def draw(checked: CheckedData) -> str:
    """Turn the answer of a check into text."""
    counts = [f"{printable(name)}: {count}" for name, count in checked.classes.items()]
    if len(counts) > CLASSES:
        counts = [*counts[:CLASSES], f"and {len(counts) - CLASSES} classes more"]
    doubts = sum(one.name not in USUAL for one in checked.notes)
    what = "nothing is wrong, but look at the notes" if doubts else "all in order"
    lines = [
        f"{checked.dataset}: {counted(checked.files, 'file')}, {checked.labeled} labeled, {what}"
    ]
    lines += [f"  {', '.join(counts)}"]
    lines += [f"  accepted: {_line(one)}" for one in checked.accepted]
    lines += _notes(checked.notes)
    if checked.learned:
        lines.append(f"  learned and committed: {checked.schema}")
    elif checked.schema is None:
        lines.append(
            "  hint: `mlstack version check --learn` keeps what the data is like; "
            "later data is held against it"
        )
    return "\n".join(lines)


def _notes(notes: list[Finding]) -> Iterator[str]:
    counts = Counter(one.name for one in notes)
    told: Counter[str] = Counter()
    for one in notes:
        told[one.name] += 1
        if told[one.name] <= NAMED:
            hint = f"; {one.hint}" if one.hint else ""
            yield f"  note: {_line(one)}{hint}"
        elif told[one.name] == counts[one.name]:
            yield f"  note: ... and {counts[one.name] - NAMED} more like this"


def _line(one: Finding) -> str:
    return printable(one.problem)
