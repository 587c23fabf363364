"""What a person reads of a difference."""

from mlstack.printable import printable
from mlstack.version.difference import ClassChange, Difference, RowChange, TableChange
from mlstack.version.words import apart, size

NAMED = 10  # paths and rows that are named; the rest is counted
WIDTH = 40  # characters of a value
CELLS = 6  # values of one row that are shown


def draw(found: Difference) -> str:
    """Turn a difference into text."""
    lines = [*_files(found), *_relabelled(found), *_bytes(found)]
    for table in found.tables:
        lines.extend(_table(table))
    head = f"{found.dataset}: {found.before} -> {found.after}"
    page = [f"  drawn in {found.page}"] if found.page else []
    if not lines:
        return "\n".join([f"{head}: no difference", *page])
    return "\n".join([head, *lines, *_classes(found.classes), *page])


def _files(found: Difference) -> list[str]:
    lines: list[str] = []
    for sign, name, paths in (
        ("+", "added", found.added),
        ("-", "removed", found.removed),
        ("~", "changed", found.changed),
        ("=", "renamed", [f"{one.before} -> {one.after}" for one in found.renamed]),
    ):
        if paths:
            lines.append(f"  {len(paths)} {name}")
            lines.extend(f"    {sign} {printable(path)}" for path in paths[:NAMED])
            lines.extend(_more(len(paths)))
    return lines


def _relabelled(found: Difference) -> list[str]:
    if not found.relabelled:
        return []
    lines = [f"  {found.relabelled_count} relabelled"]
    for one in found.relabelled[:NAMED]:
        before, after = one.before or "(none)", one.after or "(none)"
        lines.append(f"    {printable(one.path)}: {printable(before)} -> {printable(after)}")
    return [*lines, *_more(found.relabelled_count)]


def _bytes(found: Difference) -> list[str]:
    if found.bytes_added is None or found.bytes_removed is None:
        return ["  bytes: not known, some of the files are not in the cache"]
    if not found.bytes_added and not found.bytes_removed:
        return []
    delta = found.bytes_added - found.bytes_removed
    sign = "+" if delta >= 0 else ""
    return [
        f"  bytes: +{size(found.bytes_added)} -{size(found.bytes_removed)} = {sign}{size(delta)}"
    ]


def _table(table: TableChange) -> list[str]:
    name = printable(table.path)
    if table.problem:
        return [f"  {name}: {table.problem}", f"    hint: {table.hint}"]
    how = f"by `{', '.join(table.key)}`" if table.key else "as wholes (no column names them)"
    lines = [
        f"  {name}, rows {how}: {table.rows_added} added, {table.rows_removed} removed, "
        f"{table.rows_changed} changed ({table.rows_before} -> {table.rows_after})"
    ]
    lines += [f"    note: {note}" for note in table.notes]
    lines += [f"    + column {printable(n)} {kind}" for n, kind in table.columns_added.items()]
    lines += [f"    - column {printable(n)} {kind}" for n, kind in table.columns_removed.items()]
    lines += [
        f"    ~ column {printable(one.name)} {one.before} -> {one.after}"
        for one in table.columns_retyped
    ]
    counts = ", ".join(f"{printable(n)} {count}" for n, count in table.cells_changed.items())
    lines += [f"    changed values: {counts}"] if counts else []
    if list(table.cells_changed) != ["label"]:  # else they are the relabelled ones above
        lines += [f"      {_row(row)}" for row in table.rows[:NAMED]]
        lines += _more(table.rows_changed) if table.rows else []
    return [*lines, *([f"    every row that differs: {table.out}"] if table.out else [])]


def _row(row: RowChange) -> str:
    cells = [
        f"{cell.column} {' -> '.join(apart(cell.before, cell.after, WIDTH))}"
        for cell in row.cells[:CELLS]
    ]
    if len(row.cells) > CELLS:
        cells.append(f"and {len(row.cells) - CELLS} more")
    return printable(f"{', '.join(row.key)}: {', '.join(cells)}")


def _classes(classes: list[ClassChange]) -> list[str]:
    if not classes:
        return []
    width = max(len(printable(one.name)) for one in classes)
    return [
        "  examples of each class",
        *(
            f"    {printable(one.name):<{width}}  {one.before:>7} -> {one.after:>7}  {one.delta:+d}"
            + (f"  ({one.flag})" if one.flag else "")
            for one in classes
        ),
    ]


def _more(count: int) -> list[str]:
    return [f"    ... and {count - NAMED} more"] if count > NAMED else []
