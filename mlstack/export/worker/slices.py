"""Examples by the values of further columns of their labels."""

from collections import defaultdict
from pathlib import Path

from mlstack.export.handover import MeasureRequest, Slice
from mlstack.export.worker.raw import Answered
from mlstack.inputs import tables
from mlstack.records import dataset


def slices(request: MeasureRequest, test: Answered | None) -> tuple[list[Slice], list[str]]:
    """Give accuracy by the values of each wanted column, and the columns that are not there."""
    if not request.columns or test is None or not test.paths:
        return [], list(request.columns)
    right = test.predicted == test.targets
    found: list[Slice] = []
    missing = []
    for column in request.columns:
        values = values_of(request, test, column)
        if values is None:
            missing.append(column)
            continue
        members: dict[str, list[int]] = defaultdict(list)
        for row, value in enumerate(values):
            members[value].append(row)
        found += [
            Slice(column=column, value=v, accuracy=float(right[m].mean()), examples=len(m))
            for v, m in sorted(members.items())
        ]
    return found, missing


def every_row(request: MeasureRequest, parts: list[Answered]) -> dict[str, list[str]]:
    """Give each column's value for the rows of all parts; columns that some part lacks are out."""
    found = {}
    for column in request.columns:
        values = [values_of(request, part, column) if part.paths else None for part in parts]
        if all(v is not None for v in values):
            found[column] = [one for v in values if v is not None for one in v]
    return found


def values_of(request: MeasureRequest, part: Answered, column: str) -> list[str] | None:
    """Give a column's value for each example; None if there is no such column."""
    if part.rows:
        known = column in part.rows[0]
        return [tables.class_of(row[column]) or "(none)" for row in part.rows] if known else None
    values = _by_path(request, column)
    return None if values is None else [values.get(path, "(none)") for path in part.paths]


def _by_path(request: MeasureRequest, column: str) -> dict[str, str] | None:
    """Give a column by absolute path: from the run's examples, else from the labels table."""
    examples = dataset.read_examples(Path(request.examples))
    if column in examples.column_names:
        return {r["path"]: str(r[column]) for r in examples.to_pylist()}
    if request.labels is None:
        return None
    labels = dataset.read_labels(Path(request.labels))
    if column not in labels.column_names:
        return None
    source = Path(request.labels).parent
    return {str(source / r["path"]): str(r[column]) for r in labels.to_pylist()}
