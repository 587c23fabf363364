"""The figures of a run as files that `dvc metrics` and `dvc plots` show, and git can keep."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from mlstack import files
from mlstack.pipeline.stages import CONFUSION, METRICS, TABLES, TRAINING
from mlstack.records.base import read
from mlstack.records.evaluation import ANSWERS, FILE, Evaluation, SliceFigures
from mlstack.records.layout import Layout
from mlstack.records.run import EpochEnded, read_events

CLASSES, SLICES, MISTAKES = TABLES
MOST_MISTAKES = 1000


def write(root: Path, run: str, source: str) -> str:
    """Write what the evaluation of a run holds; give its accuracy in words.

    Args:
        root: the project.
        run: an evaluated run.
        source: the dataset folder; paths of mistakes are given below it.
    """
    folder = Layout(root).run(run)
    found = read(folder / FILE, Evaluation)
    answers = pq.read_table(folder / ANSWERS).to_pylist()
    files.write_text(root / METRICS, json.dumps(_metrics(found), indent=2) + "\n")
    classes = ((c.name, c.examples, c.precision, c.recall, c.f1) for c in found.classes)
    _table(root / CLASSES, ("class", "examples", "precision", "recall", "f1"), classes)
    slices = ((s.column, s.value, s.examples, s.acc) for s in found.slices)
    _table(root / SLICES, ("column", "value", "examples", "acc"), slices)
    pairs = ((answer["label"], answer["prediction"]) for answer in answers)
    _table(root / CONFUSION, ("actual", "predicted"), pairs)
    columns = ("path", "row", "actual", "predicted", "confidence")
    _table(root / MISTAKES, columns, _mistakes(answers, (root / source).resolve()))
    epochs = [event for event in read_events(folder) if isinstance(event, EpochEnded)]
    _curves(root / TRAINING, epochs)
    return f"{found.part}/acc {found.metrics['acc']:.4f}"


def _metrics(found: Evaluation) -> dict[str, Any]:
    """Give the figures as a tree; of classes and slices only the worst, the rest is in tables."""
    tree: dict[str, Any] = {"examples": found.examples, **found.metrics}
    there = [one for one in found.classes if one.examples]
    if there:
        worst = min(there, key=lambda one: one.recall)
        tree["worst_class"] = {"recall": worst.recall, "name": worst.name}
    by_column: dict[str, list[SliceFigures]] = {}
    for one in found.slices:
        by_column.setdefault(one.column, []).append(one)
    if by_column:
        lowest = {c: min(ones, key=lambda one: one.acc) for c, ones in by_column.items()}
        tree["worst_slice"] = {c: {"acc": s.acc, "value": s.value} for c, s in lowest.items()}
    return {found.part: tree}


def _mistakes(answers: list[dict[str, Any]], source: Path) -> Iterator[tuple[Any, ...]]:
    """Yield wrong answers, the most confident first: often it is the label that is wrong."""
    wrong = [one for one in answers if one["label"] != one["prediction"]]
    wrong.sort(key=lambda one: (-one["confidence"], one["path"] or "", one["row"] or 0))
    for one in wrong[:MOST_MISTAKES]:
        path = Path(one["path"]) if one["path"] else None
        inside = path is not None and path.is_relative_to(source)
        name = path.relative_to(source).as_posix() if path and inside else one["path"]
        confidence = f"{one['confidence']:.4f}"
        yield name, one["row"], one["label"], one["prediction"], confidence


def _curves(path: Path, epochs: list[EpochEnded]) -> None:
    names = list(dict.fromkeys(name for epoch in epochs for name in epoch.metrics))
    latest = {epoch.epoch: epoch for epoch in epochs}  # one that was gone on with is there twice
    rows = ((e.epoch, *(e.metrics.get(name, "") for name in names)) for e in latest.values())
    _table(path, ("epoch", *names), rows)


def _table(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    files.write_text(path, text.getvalue())
