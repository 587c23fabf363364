"""The examples of a project whose data is a table: one row each."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from mlstack.config.schema import Data
from mlstack.errors import ConfigError, DataError, Mistake
from mlstack.inputs import tables


def read(folder: Path, data: Data) -> tuple[pa.Table, list[str]]:
    """Read the label of every row of a dataset folder's table.

    Returns:
        Columns `path` (the table's, below the folder), `label`, `row` (its place in the table)
        and that of `data.split.group_by`; and a name of each row's content beside its label.

    Raises:
        DataError: there is no table, or it cannot be read.
        ConfigError: it has no column `data.label`.
    """
    path = tables.find(folder)
    if path is None:
        raise DataError(
            f"there is no {' or '.join(tables.NAMES)} in `{folder.name}`",
            hint="put the table there, one example a row",
        )
    table = tables.read(path)
    if data.label not in table.column_names:
        raise ConfigError(
            f"data.label: `{path.name}` has no column `{data.label}`",
            hint=f"it has {', '.join(table.column_names[:12])}",
        )
    if pa.types.is_floating(table[data.label].type):
        raise DataError(
            f"column `{data.label}` of `{path.name}` holds decimal numbers, not classes",
            hint="mlstack trains classifiers on tables; write a class into each row",
        )
    labels = [tables.class_of(value) for value in table[data.label].to_pylist()]
    found = pa.table(
        {
            "path": pa.array([path.name] * len(labels), pa.string()),
            "label": pa.array(labels, pa.string()),
            "row": pa.array(range(len(labels)), pa.int64()),
        }
    )
    group = data.split.group_by
    if group in table.column_names and group not in found.column_names:
        found = found.append_column(group, table[group])
    return found, tables.contents(table.to_pylist(), data.label)


def wrong(labels: list[str]) -> Iterator[Mistake]:
    """Name rows without a label; equal rows of different classes are no mistake in a table."""
    for number, label in enumerate(labels):
        if not label:
            yield Mistake(f"row {number} has no label", "write one, or remove the row")
