"""The same raw rows, answered by two graphs: which examples only one of them gets right."""

from collections import defaultdict

import numpy as np

from mlstack.export.handover import Changed, Pair
from mlstack.export.worker.raw import Answered

SHOWN = 24  # rows that changed their class
CLOSE = 6  # rows that changed most, when none changed its class


def compare(
    before: np.ndarray, parts: list[Answered], classes: list[str], slices: dict[str, list[str]]
) -> list[Pair]:
    """Count what was lost and gained over all rows, in each class and in each slice.

    Args:
        before: probabilities in full precision, (rows, classes), rows as in `parts`.
        parts: what the smaller graph answered.
        classes: names of the classes.
        slices: for each column, the value of every row.
    """
    targets = np.concatenate([p.targets for p in parts])
    was = before.argmax(axis=1) == targets
    now = np.concatenate([p.predicted for p in parts]) == targets
    found = [_pair("", "", was, now)]
    for number, name in enumerate(classes):
        rows = targets == number
        if rows.any():
            found.append(_pair("class", name, was[rows], now[rows]))
    for column, values in slices.items():
        members: dict[str, list[int]] = defaultdict(list)
        for row, value in enumerate(values):
            members[value].append(row)
        found += [_pair(column, value, was[m], now[m]) for value, m in sorted(members.items())]
    return found


def changed(before: np.ndarray, parts: list[Answered], classes: list[str]) -> list[Changed]:
    """List rows that changed their class, those that changed most first."""
    after = np.concatenate([p.probabilities for p in parts])
    diff = np.abs(after - before).max(axis=1)
    flipped = before.argmax(axis=1) != after.argmax(axis=1)
    order = np.lexsort((-diff, ~flipped))
    wanted = order[: min(int(flipped.sum()), SHOWN) or CLOSE]
    starts = np.cumsum([0, *(len(p.targets) for p in parts)])
    found = []
    for row in wanted.tolist():
        place = int(np.searchsorted(starts, row, side="right")) - 1
        part, within = parts[place], row - int(starts[place])
        was, now = int(before[row].argmax()), int(after[row].argmax())
        found.append(
            Changed(
                path=part.paths[within] if part.paths and not part.rows else "",
                row=_row(part, within),
                label=classes[part.targets[within]],
                before=classes[was],
                after=classes[now],
                before_probability=round(float(before[row, was]), 6),
                after_probability=round(float(after[row, now]), 6),
                diff=round(float(diff[row]), 6),
            )
        )
    return found


def log_losses(probabilities: np.ndarray, parts: list[Answered]) -> np.ndarray:
    """Give the cross-entropy of each row."""
    targets = np.concatenate([p.targets for p in parts])
    chance = probabilities[np.arange(len(targets)), targets]
    return np.asarray(-np.log(np.maximum(chance, 1e-12)))


def _pair(column: str, value: str, was: np.ndarray, now: np.ndarray) -> Pair:
    return Pair(
        column=column,
        value=value,
        examples=len(was),
        lost=int((was & ~now).sum()),
        gained=int((~was & now).sum()),
    )


def _row(part: Answered, place: int) -> dict[str, object] | None:
    if not part.rows:
        return None
    return {name: part.rows[place].get(name) for name in part.fields}
