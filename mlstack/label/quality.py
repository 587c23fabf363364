"""Judge labels: counts, agreement of annotators, and everything that `label check` refuses."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

import numpy as np

from mlstack.errors import Mistake
from mlstack.label.opinions import Ledger, by_pair, current, ledger
from mlstack.label.results import AnnotatorStats, LabelStats, PairAgreement
from mlstack.records.labels import LabelEvent
from mlstack.stats.agreement import cohen_kappa, raw_agreement

MIN_SHARED = 20  # kappa of fewer items is mostly chance


@dataclass(frozen=True)
class Scope:
    """What labels are judged against."""

    paths: list[str]
    classes: list[str]
    known: dict[str, str]


def verdicts(kept: Ledger, scope: Scope) -> dict[str, str]:
    """Give the label that counts for every labeled path, whether or not its file is there."""
    found: dict[str, str] = {}
    for path in sorted({*scope.paths, *scope.known, *kept.labels}):
        label = kept.verdict(path, scope.known.get(path))
        if label is not None:
            found[path] = label
    return found


def per_class(labels: Iterable[str], classes: list[str]) -> dict[str, int]:
    """Count labels, classes first and in their order."""
    counts = Counter(labels)
    return {name: counts.pop(name, 0) for name in classes} | dict(sorted(counts.items()))


def tied(kept: Ledger) -> dict[str, dict[str, str]]:
    """Give the items on which annotators are divided, and who says what."""
    return {
        path: opinions
        for path, opinions in sorted(current(kept).items())
        if kept.verdict(path, None) is None
    }


def agreement(kept: Ledger) -> list[PairAgreement]:
    """Measure each two annotators on what both of them labeled."""
    found = []
    for (first, second), pairs in sorted(by_pair(current(kept)).items()):
        left = np.array([a for a, _ in pairs])
        right = np.array([b for _, b in pairs])
        found.append(
            PairAgreement(
                first=first,
                second=second,
                shared=len(pairs),
                agreement=round(raw_agreement(left, right), 4),
                kappa=round(cohen_kappa(left, right), 4),
            )
        )
    return found


def stats(events: list[LabelEvent], scope: Scope) -> LabelStats:
    """Count labels by class, annotator and pair."""
    kept = ledger(events)
    labels = verdicts(kept, scope)
    names = sorted({event.annotator for event in events})
    return LabelStats(
        total=len(scope.paths),
        labeled=sum(1 for path in scope.paths if path in labels),
        classes=per_class(labels.values(), scope.classes),
        annotators=[_annotator(name, events, kept) for name in names],
        agreement=agreement(kept),
    )


def problems(kept: Ledger, scope: Scope, min_agreement: float) -> list[Mistake]:
    """List everything that is wrong with the labels."""
    labels = verdicts(kept, scope)
    there, classes = set(scope.paths), set(scope.classes)
    found = [
        Mistake(f"`{path}` is labeled `{label}`, which is not in data.classes")
        for path, label in labels.items()
        if label not in classes
    ]
    found += [
        Mistake(
            f"`{path}` is labeled `{label}`, but there is no such image",
            "bring it back, or type `mlstack label export --drop-missing`",
        )
        for path, label in labels.items()
        if path not in there
    ]
    for path, opinions in tied(kept).items():
        said = ", ".join(f"{who} says `{label}`" for who, label in sorted(opinions.items()))
        found.append(Mistake(f"`{path}`: annotators are divided: {said}"))
    found += [
        Mistake(
            f"{pair.first} and {pair.second} agree too little: Cohen's kappa {pair.kappa:.2f} on "
            f"{pair.shared} items; label.min_agreement is {min_agreement:g}"
        )
        for pair in agreement(kept)
        if pair.shared >= MIN_SHARED and pair.kappa < min_agreement
    ]
    return found


def _annotator(name: str, events: list[LabelEvent], kept: Ledger) -> AnnotatorStats:
    mine = [event for event in events if event.annotator == name]
    spent = [event.seconds for event in mine if event.seconds is not None]
    own = {path: opinions[name] for path, opinions in current(kept).items() if name in opinions}
    return AnnotatorStats(
        name=name,
        labels=len(own),
        skipped=sum(1 for path in kept.skips if kept.skipped(path, name)),
        undone=sum(1 for event in mine if event.action == "undo"),
        median_seconds=round(median(spent), 2) if spent else None,
        classes=dict(sorted(Counter(own.values()).items())),
    )
