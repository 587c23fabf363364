"""The examples of a project whose data is a table: one row each."""

from collections.abc import Iterator
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import cast

import pyarrow as pa

from mlstack.config.data_sections import Data
from mlstack.errors import ConfigError, DataError, Mistake
from mlstack.inputs import tables

MOST_NAMED = 10  # classes that are named one by one, whatever is wrong with them


def joined(root: Path, data: Data, md5s: dict[str, str]) -> Path | None:
    """Join `data.features` to the table; None where the project has none.

    Raises:
        DataError: a file is missing or cannot be joined.
        ConfigError: a column is there twice.
    """
    if data.features is None:
        return None
    # DuckDB takes 0.1 s to load, which only projects with features should pay.
    return cast("Path", import_module("mlstack.launch.features").join(root, data, md5s))


def read(folder: Path, data: Data, wide: Path | None = None) -> tuple[pa.Table, list[str]]:
    """Read the label of every row of a dataset folder's table.

    Args:
        folder: the dataset.
        data: the settings.
        wide: the same rows with their features, as `joined` gives it.

    Returns:
        Columns `path` (the table's, below the folder), `label`, `row` (its place in the table)
        and that of `data.split.group_by`; and a name of each row's content beside its label.

    Raises:
        DataError: there is no table, it cannot be read, or its labels are no classes.
        ConfigError: it has no column `data.label` or `data.split.group_by`, or none of
            `data.args.ignore`.
    """
    path = tables.find(folder)
    if path is None:
        raise DataError(
            f"there is no {' or '.join(tables.NAMES)} in `{folder.name}`",
            hint="put the table there, one example a row",
        )
    table = tables.read(path)
    group = data.split.group_by
    for setting, name in (("data.label", data.label), ("data.split.group_by", group)):
        if name is not None and name not in table.column_names:
            raise ConfigError(
                f"{setting}: `{path.name}` has no column `{name}`",
                hint=f"it has {', '.join(table.column_names[:12])}",
            )
    if pa.types.is_floating(table[data.label].type):
        raise DataError(
            f"column `{data.label}` of `{path.name}` holds decimal numbers, not classes",
            hint="mlstack trains classifiers on tables; write a class into each row",
        )
    labels = [tables.class_of(value) for value in table[data.label].to_pylist()]
    different = len(set(labels) - {""})
    if different > MOST_NAMED and 2 * different >= len(labels):
        others = ", ".join([name for name in table.column_names if name != data.label][:12])
        raise DataError(
            f"column `{data.label}` of `{path.name}` holds {different} different values in "
            f"{len(labels)} rows: it is no class",
            hint=f"name another one (data.label, of init --label); there is {others}",
        )
    found = pa.table(
        {
            "path": pa.array([str(wide or path.name)] * len(labels), pa.string()),
            "label": pa.array(labels, pa.string()),
            "row": pa.array(range(len(labels)), pa.int64()),
        }
    )
    if group is not None and group not in found.column_names:
        found = found.append_column(group, table[group])
    rows = table if wide is None else tables.read(wide)
    _refuse_ignored(data, path.name, list(dict.fromkeys([*table.column_names, *rows.column_names])))
    return found, tables.contents(rows.to_pylist(), data.label)


def _refuse_ignored(data: Data, table: str, columns: list[str]) -> None:
    """Refuse columns in `data.args.ignore` that are not there: what was meant would be learned."""
    ignored = data.args.get("ignore")
    if isinstance(ignored, str):  # a template would take each letter for a column
        raise ConfigError(
            f"data.args.ignore: {ignored!r} is no list of columns", hint=f"write [{ignored}]"
        )
    if not isinstance(ignored, list):
        return
    strange = next((one for one in ignored if isinstance(one, str) and one not in columns), None)
    if strange is not None:
        close = get_close_matches(strange, columns, n=1)
        raise ConfigError(
            f"data.args.ignore: `{table}` has no column `{strange}`",
            hint=f"did you mean `{close[0]}`?" if close else f"it has {', '.join(columns[:12])}",
        )


def wrong(labels: list[str]) -> Iterator[Mistake]:
    """Name rows without a label; equal rows of different classes are no mistake in a table."""
    for number, label in enumerate(labels, 1):
        if not label:
            yield Mistake(
                f"row {number} has no label", "write one, or remove the row; the first row is 1"
            )
