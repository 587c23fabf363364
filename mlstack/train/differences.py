"""What differs between two runs: settings, data, code."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec import structs

from mlstack.inputs.splits import PARTS
from mlstack.records.base import read
from mlstack.records.dataset import EXAMPLES, read_examples
from mlstack.records.run import SPEC, RunSpec
from mlstack.train.results import DataChange, Difference


def lined_up(
    sides: list[dict[str, Any]], show_value: Callable[[Any], str], *, equal: bool = False
) -> list[Difference]:
    """Line up the values of each name; equal ones too when asked for."""
    found = []
    for name in dict.fromkeys(name for side in sides for name in side):
        values = [show_value(side[name]) if name in side else None for side in sides]
        if equal or len(set(values)) > 1:
            found.append(Difference(name=name, values=values))
    return found


def data_change(first: Path, other: Path) -> DataChange:
    """Compare the examples of two runs, given by their folders.

    Raises:
        DataError: a run's examples cannot be read.
    """
    before, after = (read(folder / SPEC, RunSpec) for folder in (first, other))
    same = before.dataset.md5 == after.dataset.md5
    found = DataChange(run=after.id, md5=after.dataset.md5, same=same)
    tables = [read_examples(folder / EXAMPLES) for folder in (first, other)]
    parts = [table["split"].to_pylist() for table in tables]
    if same and parts[0] == parts[1]:
        return found
    labels = [table["label"].to_pylist() for table in tables]
    return structs.replace(
        found,
        parts={name: [side.count(name) for side in parts] for name in PARTS},
        classes=_counts(labels),
        **_by_name(tables, (before, after)),
    )


def _counts(labels: list[list[str]]) -> dict[str, list[int]]:
    counts = [Counter(map(str, side)) for side in labels]
    names = sorted(counts[0].keys() | counts[1].keys())
    return {n: [c[n] for c in counts] for n in names if counts[0][n] != counts[1][n]}


def _by_name(tables: list[pa.Table], specs: tuple[RunSpec, RunSpec]) -> dict[str, int]:
    if any("row" in table.column_names for table in tables):
        return {}  # the rows of a table have no names; `mlstack version diff` takes keys
    sides = []
    for table, spec in zip(tables, specs, strict=True):
        root = str(Path(spec.root) / spec.dataset.source)
        names = [path.removeprefix(root) for path in table["path"].to_pylist()]
        values = zip(table["label"].to_pylist(), table["split"].to_pylist(), strict=True)
        sides.append(dict(zip(names, values, strict=True)))
    before, after = sides
    both = before.keys() & after.keys()
    return {
        "added": len(after) - len(both),
        "removed": len(before) - len(both),
        "relabeled": sum(before[name][0] != after[name][0] for name in both),
        "moved": sum(before[name][1] != after[name][1] for name in both),
    }


def data_line(change: DataChange, first: RunSpec) -> str:
    """Say in one line how the data of another run differs from that of the first."""
    if change.same and not change.parts:
        return f"same data, {change.md5[:8]}"
    what = (
        f"same files, {change.md5[:8]}"
        if change.same
        else f"{first.dataset.md5[:8]} -> {change.md5[:8]}"
    )
    if change.added is None:
        before, after = (sum(side) for side in zip(*change.parts.values(), strict=True))
        return f"{what}: {before} -> {after} rows"
    said = [f"{change.added} examples added", f"{change.removed} removed"]
    said.append(f"{change.relabeled} labeled anew")
    if change.moved:
        said.append(f"{change.moved} in another part")
    return f"{what}: {', '.join(said)}"


def code_line(first: RunSpec, other: RunSpec) -> str:
    """Say in one line how the code of another run differs from that of the first."""
    sides = [_commit(first), _commit(other)]
    if first.code.python_sha256 == other.code.python_sha256:
        return f"same Python files, {sides[1]}"
    return f"{sides[0]} -> {sides[1]}"


def _commit(spec: RunSpec) -> str:
    commit = (spec.code.commit or "no commit")[:9]
    return f"{commit} with changes" if spec.code.dirty else commit
