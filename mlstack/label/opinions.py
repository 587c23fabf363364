"""Events -> opinions: what each annotator says of each item now."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from mlstack.records.labels import LabelEvent

Opinions = dict[str, dict[str, str]]  # path -> annotator -> label


@dataclass
class Ledger:
    """The events that still stand, by item and annotator; fed one event at a time."""

    labels: dict[str, dict[str, dict[int, str]]] = field(default_factory=dict)
    skips: dict[str, dict[str, set[int]]] = field(default_factory=dict)
    ever_labeled: dict[str, set[str]] = field(default_factory=dict)

    def apply(self, event: LabelEvent) -> None:
        """Take one event into account; the order of different annotators does not matter."""
        if event.action == "label" and event.label is not None:
            mine = self.labels.setdefault(event.path, {}).setdefault(event.annotator, {})
            mine[event.seq] = event.label
            self.ever_labeled.setdefault(event.path, set()).add(event.label)
        elif event.action == "skip":
            self.skips.setdefault(event.path, {}).setdefault(event.annotator, set()).add(event.seq)
        elif event.action == "undo" and event.undoes is not None:
            self._take_back(event, event.undoes)

    def current(self, path: str) -> dict[str, str]:
        """Give each annotator's label of an item: the newest one that was not taken back."""
        return {who: own[max(own)] for who, own in self.labels.get(path, {}).items() if own}

    def verdict(self, path: str, known: str | None) -> str | None:
        """Give the label that counts; None without one, or when annotators are divided.

        Args:
            path: the item.
            known: the label that the dataset holds. It may be an export of a label that was
                taken back since; then it counts no more.
        """
        opinions = self.current(path)
        if opinions:
            return majority(opinions)
        return None if known in self.ever_labeled.get(path, ()) else known

    def labeled(self, path: str, annotator: str) -> bool:
        """Tell whether an annotator's label of an item stands."""
        return bool(self.labels.get(path, {}).get(annotator))

    def answered(self, path: str, annotator: str) -> bool:
        """Tell whether an annotator labeled or skipped an item."""
        return self.labeled(path, annotator) or bool(self.skips.get(path, {}).get(annotator))

    def skipped(self, path: str, annotator: str) -> bool:
        """Tell whether an annotator skipped an item and has not labeled it."""
        skips = self.skips.get(path, {}).get(annotator)
        return bool(skips) and not self.labeled(path, annotator)

    def _take_back(self, event: LabelEvent, seq: int) -> None:
        self.labels.get(event.path, {}).get(event.annotator, {}).pop(seq, None)
        self.skips.get(event.path, {}).get(event.annotator, set()).discard(seq)


def ledger(events: Iterable[LabelEvent]) -> Ledger:
    """Take all events into account."""
    kept = Ledger()
    for event in events:
        kept.apply(event)
    return kept


def current(kept: Ledger) -> Opinions:
    """Give the current label of every item and annotator."""
    found = {path: kept.current(path) for path in kept.labels}
    return {path: opinions for path, opinions in found.items() if opinions}


def majority(opinions: dict[str, str]) -> str | None:
    """Give the label that most annotators chose; None on a tie."""
    ranked = Counter(opinions.values()).most_common(2)
    if len(ranked) == 2 and ranked[0][1] == ranked[1][1]:
        return None
    return ranked[0][0]


def by_pair(opinions: Opinions) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Give for each two annotators their labels of the items that both labeled."""
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for own in opinions.values():
        names = sorted(own)
        for position, first in enumerate(names):
            for second in names[position + 1 :]:
                pairs[first, second].append((own[first], own[second]))
    return dict(pairs)
