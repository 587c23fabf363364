"""Golden examples: raw inputs that travel with the package, and what it must answer."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from mlstack import files, packed
from mlstack.export.handover import Part
from mlstack.export.worker.arrays import opened
from mlstack.export.worker.raw import Answered, load_input
from mlstack.export.worker.session import Session
from mlstack.inputs import tables
from mlstack.inputs.preprocess import Spec
from mlstack.records import trusted
from mlstack.records.package import Golden, GoldenExample

COUNT = 12


def choose(answered: Answered, part: Part, classes: list[str], folder: Path) -> list[GoldenExample]:
    """Copy about twelve examples that cover the classes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        GoldenExample(
            file=_keep(answered, part, row, folder / f"{number:02d}"),
            label=classes[answered.targets[row]],
            prediction=classes[answered.predicted[row]],
            probabilities=[float(p) for p in answered.probabilities[row]],
        )
        for number, row in enumerate(spread(answered.targets, max(COUNT, len(classes[:50]))))
    ]


def spread(targets: np.ndarray, wanted: int) -> list[int]:
    """Pick rows class by class, in turn."""
    waiting: dict[int, list[int]] = defaultdict(list)
    for row, target in enumerate(targets.tolist()):
        waiting[target].append(row)
    picked: list[int] = []
    while waiting and len(picked) < wanted:
        for target in sorted(waiting):
            picked.append(waiting[target].pop(0))
            if not waiting[target]:
                del waiting[target]
    return picked[:wanted]


def replay(
    session: Session, golden: Golden, folder: Path, spec: Spec | None, classes: list[str]
) -> tuple[float, list[str]]:
    """Answer golden examples again: the largest difference, and a line for each that differs."""
    worst, differing = 0.0, []
    for example in golden.examples:
        row = load_input(folder / example.file, spec)
        _, answered = session.answer(row[None])
        trusted.check_answered(folder.parents[1], answered.shape, (1, len(classes)))
        (probabilities,) = answered
        diff = float(np.abs(probabilities - np.array(example.probabilities)).max())
        diff = diff if np.isfinite(diff) else 1.0
        worst = max(worst, diff)
        answer = classes[int(probabilities.argmax())]
        if answer != example.prediction:
            differing.append(f"{example.file}: `{answer}` instead of `{example.prediction}`")
        elif diff > golden.tolerance:
            differing.append(
                f"{example.file}: probabilities differ by {diff:.2g}, "
                f"more than {golden.tolerance:g}"
            )
    return worst, differing


def _keep(answered: Answered, part: Part, row: int, target: Path) -> str:
    if answered.rows:
        kept = target.with_name(target.name + ".json")
        wanted = {name: answered.rows[row][name] for name in answered.fields}
        files.write_bytes(kept, tables.encode_row(wanted))
        return kept.name
    if answered.paths:
        source = Path(answered.paths[row])
        kept = target.with_name(target.name + source.suffix.lower())
        files.write_bytes(kept, packed.read(source))
        return kept.name
    kept = target.with_name(target.name + ".npy")
    np.save(kept, opened(part.inputs)[row])
    return kept.name
