"""Who labels what next: items in a seeded order, dealt so that two people never hold one item."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from mlstack.label.opinions import Ledger, ledger
from mlstack.records.labels import LabelEvent

LEASE_S = 300.0


@dataclass(frozen=True)
class Plan:
    """The items to deal and how."""

    paths: list[str]
    known: dict[str, str]  # labels that the dataset came with; never asked for again
    seed: int
    overlap: float  # share of items that two people label


@dataclass
class Desk:
    """What one annotator holds."""

    waiting: int  # items that could be dealt to them
    labeled: int  # items with a label of theirs
    skipped: dict[str, None]  # items they skipped that still lack labels, in that order
    cursor: int = 0
    held: dict[str, float] = field(default_factory=dict)  # path -> end of the lease


@dataclass(frozen=True)
class Progress:
    """How far the work is, for one annotator."""

    total: int
    labeled: int
    remaining: int
    skipped: int
    mine: int
    classes: dict[str, int]


class Board:
    """Deals items; all in memory, rebuilt from the events at each start."""

    def __init__(
        self,
        plan: Plan,
        events: Iterable[LabelEvent],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._known = plan.known
        self._rank = {path: _rank(path, plan.seed) for path in plan.paths}
        self._order = sorted(plan.paths, key=self._rank.__getitem__)
        self._place = {path: position for position, path in enumerate(self._order)}
        self._twice = {
            p for p in plan.paths if plan.overlap and _share(p, plan.seed) < plan.overlap
        }
        self._ledger: Ledger = ledger(events)
        self._clock = clock
        self._desks: dict[str, Desk] = {}
        self._counts: Counter[str] = Counter()
        for path in self._order:
            self._count(path, 1)

    def __contains__(self, path: str) -> bool:
        return path in self._place

    def apply(self, event: LabelEvent) -> None:
        """Take a durable event into account."""
        if event.path not in self._place:
            self._ledger.apply(event)
            return
        own = self._desk(event.annotator)
        own.labeled -= self._ledger.labeled(event.path, event.annotator)
        before = {name: self._wants(event.path, name) for name in self._desks}
        self._count(event.path, -1)
        self._ledger.apply(event)
        own.labeled += self._ledger.labeled(event.path, event.annotator)
        self._count(event.path, 1)
        for name, desk in self._desks.items():
            wants = self._wants(event.path, name)
            desk.waiting += wants - before[name]
            if not wants:
                desk.held.pop(event.path, None)
            elif not before[name]:
                desk.cursor = min(desk.cursor, self._place[event.path])
            if not self._is_skipped(event.path, name):
                desk.skipped.pop(event.path, None)
            else:
                desk.skipped.setdefault(event.path)
        if event.action == "undo":
            self._hand_back(event)

    def deal(self, annotator: str, count: int, *, again: bool = False) -> list[str]:
        """Lease the next items to an annotator; those they already hold come first.

        Args:
            annotator: who asks.
            count: how many items to hold.
            again: deal the ones they skipped.
        """
        desk = self._desk(annotator)
        now = self._clock()
        if again:
            skipped = [p for p in desk.skipped if self._room(p, annotator, now)]
            desk.held = dict.fromkeys(skipped, now + LEASE_S) | desk.held
            return skipped[:count]
        for path in self._free(annotator, desk, now):
            if len(desk.held) >= count:
                break
            desk.held[path] = now
        dealt = list(desk.held)[:count]
        for path in dealt:
            desk.held[path] = now + LEASE_S
        return dealt

    def progress(self, annotator: str) -> Progress:
        """Count what is done and what is left for an annotator."""
        labeled, desk = self._counts.total(), self._desk(annotator)
        return Progress(
            total=len(self._order),
            labeled=labeled,
            remaining=desk.waiting,
            skipped=len(desk.skipped),
            mine=desk.labeled,
            classes=dict(self._counts),
        )

    def label_of(self, path: str, annotator: str) -> str | None:
        """Give an annotator's own label of an item; nobody sees what others say."""
        return self._ledger.current(path).get(annotator)

    def labeled(self, annotator: str, name: str | None) -> list[tuple[str, str]]:
        """Give the items that an annotator may look through again, and their labels.

        Those are their own answers and the labels that the dataset came with; what others said
        is not shown. `name` is the class they want to see, None for all.
        """
        found = []
        for path in self._order:
            label = self._known.get(path)
            if path in self._ledger.labels:  # most were never labeled here, and cost nothing
                votes = self._ledger.current(path)
                label = votes.get(annotator) if votes else self._ledger.verdict(path, label)
            if label is not None and name in (None, label):
                found.append((path, label))
        return found

    def _free(self, annotator: str, desk: Desk, now: float) -> Iterator[str]:
        """Walk the order from the first item they still want; those in other hands are passed."""
        while desk.cursor < len(self._order) and not self._wants(
            self._order[desk.cursor], annotator
        ):
            desk.cursor += 1
        for position in range(desk.cursor, len(self._order)):
            path = self._order[position]
            wanted = path not in desk.held and self._wants(path, annotator)
            if wanted and self._room(path, annotator, now):
                yield path

    def _room(self, path: str, annotator: str, now: float) -> bool:
        """Tell whether an item is not in as many other hands as it still needs."""
        hands = sum(
            1
            for name, desk in self._desks.items()
            if name != annotator and desk.held.get(path, 0.0) > now
        )
        return hands < self._needs(path)

    def _needs(self, path: str) -> int:
        """Count the labels that an item still lacks."""
        votes = len(self._ledger.current(path))
        if not votes and self._ledger.verdict(path, self._known.get(path)) is not None:
            return 0  # it came with a label
        return (2 if path in self._twice else 1) - votes

    def _wants(self, path: str, annotator: str) -> bool:
        return self._needs(path) > 0 and not self._ledger.answered(path, annotator)

    def _is_skipped(self, path: str, annotator: str) -> bool:
        return self._ledger.skipped(path, annotator) and self._needs(path) > 0

    def _hand_back(self, event: LabelEvent) -> None:
        """Put an item whose label was taken back on top of what its annotator holds."""
        if self._wants(event.path, event.annotator):
            desk = self._desk(event.annotator)
            desk.held = {event.path: self._clock() + LEASE_S} | desk.held

    def _desk(self, annotator: str) -> Desk:
        if annotator not in self._desks:
            self._desks[annotator] = Desk(
                waiting=sum(1 for path in self._order if self._wants(path, annotator)),
                labeled=sum(1 for path in self._order if self._ledger.labeled(path, annotator)),
                skipped={
                    path: None
                    for path in self._ledger.skips
                    if path in self._place and self._is_skipped(path, annotator)
                },
            )
        return self._desks[annotator]

    def _count(self, path: str, sign: int) -> None:
        label = self._ledger.verdict(path, self._known.get(path))
        if label is not None:
            self._counts[label] += sign


def _rank(path: str, seed: int) -> bytes:
    return hashlib.sha1(f"{seed}:{path}".encode(), usedforsecurity=False).digest()


def _share(path: str, seed: int) -> float:
    digest = hashlib.sha1(f"overlap:{seed}:{path}".encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:7], "big") / (1 << 56)
