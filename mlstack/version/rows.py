"""Which rows of two tables differ: the queries, over views `before` and `after` of equal columns.

In SQL the column number N is called cN, so no name of a user's column can be in the way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from mlstack import files
from mlstack.version.difference import Cell, Relabelled, RowChange, TableChange

CUT = 200  # characters of a value that are told
SHOWN = 20  # changed rows that are shown old -> new
MOST_RELABELLED = 1000  # rows of another class that are named
MOST_KEPT = 20_000_000  # changed rows that are kept aside; more are joined anew for each question
SIDES = ("before", "after")


@dataclass(frozen=True)
class Columns:
    """The columns that both sides have, by their place."""

    names: list[str]
    key: list[int]  # those that name a row; none: rows are compared as wholes
    label: int | None

    @property
    def others(self) -> list[int]:
        """The columns beside the key."""
        return [place for place in range(len(self.names)) if place not in self.key]

    @property
    def keys(self) -> str:
        """The key in SQL."""
        return ", ".join(f"c{place}" for place in self.key)

    def matching(self, left: str, right: str) -> str:
        """Give the condition that two rows have the same key; a missing value equals another."""
        pairs = (f"{left}.c{place} IS NOT DISTINCT FROM {right}.c{place}" for place in self.key)
        return " AND ".join(pairs)


def group_by_key(connection: Any, columns: Columns) -> int:
    """Fill `differing` with the keys of rows that are not on both sides alike.

    Returns:
        the number of keys that stand on one side more than once.
    """
    content = ", ".join(f"c{place}" for place in columns.others)
    content = f"hash({content})" if content else "0::UBIGINT"
    union = " UNION ALL ".join(
        f"SELECT {columns.keys}, {number}::TINYINT AS side, {content} AS h FROM {side}"
        for number, side in enumerate(SIDES)
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE differing AS "
        f"SELECT {columns.keys}, count(*) AS n, min(side) AS lo, max(side) AS hi "
        f"FROM ({union}) GROUP BY {columns.keys} "
        "HAVING count(*) <> 2 OR min(side) = max(side) OR bit_xor(h) <> 0"
    )
    twice = "SELECT count(*) FROM differing WHERE n > 2 OR (n = 2 AND lo = hi)"
    return int(one(connection, twice))


def by_key(connection: Any, change: TableChange, columns: Columns, out: Path | None) -> TableChange:
    """Say what changed in rows of the same key; `group_by_key` was called before."""
    added, removed, changed = connection.execute(
        "SELECT count(*) FILTER (n = 1 AND lo = 1), count(*) FILTER (n = 1 AND lo = 0), "
        "count(*) FILTER (n = 2) FROM differing"
    ).fetchone()
    _pair_by_key(connection, columns, changed)
    return replace(
        change,
        key=[columns.names[place] for place in columns.key],
        rows_added=added,
        rows_removed=removed,
        rows_changed=changed,
        cells_changed=_cells_changed(connection, columns) if changed else {},
        rows=_examples(connection, columns) if changed else [],
        relabelled=_relabelled(connection, change.path, columns) if changed else [],
        out=_write(connection, out, _differing_rows(columns)),
    )


def by_content(
    connection: Any, change: TableChange, columns: Columns, out: Path | None
) -> TableChange:
    """Compare rows as wholes; rows that differ in nothing but the label are the same row."""
    _collect_unmatched(connection, columns)
    query = "SELECT count(*) FROM unmatched_before JOIN unmatched_after USING (rest, turn)"
    label = columns.label
    pairs = one(connection, query) if label is not None and len(columns.names) > 1 else 0
    relabelled = _relabelled_by_content(connection, change.path, label) if pairs else []
    return replace(
        change,
        rows_added=one(connection, "SELECT count(*) FROM unmatched_after") - pairs,
        rows_removed=one(connection, "SELECT count(*) FROM unmatched_before") - pairs,
        rows_changed=pairs,
        cells_changed={columns.names[label]: pairs} if pairs and label is not None else {},
        relabelled=relabelled,
        out=_write(connection, out, _unmatched_rows(columns)),
    )


def one(connection: Any, query: str) -> Any:
    """Give the one value that a query answers."""
    return connection.execute(query).fetchone()[0]


def quoted(name: str) -> str:
    """Write the name of a column in SQL."""
    return '"' + name.replace('"', '""') + '"'


def text(value: object) -> str:
    """Write a text in SQL."""
    return "'" + str(value).replace("'", "''") + "'"


def _pair_by_key(connection: Any, columns: Columns, changed: int) -> None:
    """Make `pairs`: rows that changed, column N as bN before and aN after."""
    named = [f"b.c{place} AS c{place}" for place in columns.key]
    named += [f"b.c{p} AS b{p}, a.c{p} AS a{p}" for p in columns.others]
    changing = "(SELECT * FROM differing WHERE n = 2)"
    sides = [
        f"(SELECT {side}.* FROM {side} SEMI JOIN {changing} d ON {columns.matching(side, 'd')})"
        for side in SIDES
    ]
    connection.execute("DROP VIEW IF EXISTS pairs; DROP TABLE IF EXISTS pairs")
    connection.execute(
        f"CREATE TEMP {'TABLE' if changed <= MOST_KEPT else 'VIEW'} pairs AS "
        f"SELECT {', '.join(named)} FROM {sides[0]} b JOIN {sides[1]} a "
        f"ON {columns.matching('b', 'a')}"
    )


def _cells_changed(connection: Any, columns: Columns) -> dict[str, int]:
    counts = ", ".join(
        f"count(*) FILTER (b{place} IS DISTINCT FROM a{place})" for place in columns.others
    )
    row = connection.execute(f"SELECT {counts} FROM pairs").fetchone()
    counted = zip(columns.others, row, strict=True)
    return {columns.names[place]: count for place, count in counted if count}


def _examples(connection: Any, columns: Columns) -> list[RowChange]:
    """Read the first rows that changed, cell by cell."""
    cells = [_as_text(f"c{place}") for place in columns.key]
    for p in columns.others:
        cells += [f"b{p} IS DISTINCT FROM a{p}", *_as_texts(f"b{p}", f"a{p}")]
    query = f"SELECT {', '.join(cells)} FROM pairs ORDER BY {columns.keys} LIMIT {SHOWN}"
    width = len(columns.key)
    return [
        RowChange(
            key=[value or "" for value in row[:width]],
            cells=[
                Cell(column=columns.names[place], before=old, after=new)
                for place, differs, old, new in zip(
                    columns.others,
                    row[width::3],
                    row[width + 1 :: 3],
                    row[width + 2 :: 3],
                    strict=True,
                )
                if differs
            ],
        )
        for row in connection.execute(query).fetchall()
    ]


def _relabelled(connection: Any, path: str, columns: Columns) -> list[Relabelled]:
    label = columns.label
    if label is None or label in columns.key:
        return []
    name = " || ',' || ".join(f"coalesce({_as_text(f'c{place}')}, '')" for place in columns.key)
    query = (
        f"SELECT {name}, {_as_text(f'b{label}')}, {_as_text(f'a{label}')} FROM pairs "
        f"WHERE b{label} IS DISTINCT FROM a{label} ORDER BY {columns.keys} "
        f"LIMIT {MOST_RELABELLED}"
    )
    return [
        Relabelled(path=f"{path}:{key}", before=old, after=new)
        for key, old, new in connection.execute(query).fetchall()
    ]


def _differing_rows(columns: Columns) -> str:
    """Give the query of every row that differs: its key, and each column before and after."""
    changed, old, new = [], [], []
    keys = [columns.names[place] for place in columns.key]
    pairs = [f"{columns.names[place]}_{word}" for place in columns.others for word in SIDES]
    said = _told_apart(["change", *keys, *pairs])
    for place, before, after in zip(
        columns.others, said[1 + len(keys) :: 2], said[2 + len(keys) :: 2], strict=True
    ):
        changed.append(f"b{place} AS {before}, a{place} AS {after}")
        old.append(f"c{place} AS {before}")
        new.append(f"c{place} AS {after}")
    key = [f"c{place} AS {name}" for place, name in zip(columns.key, said[1:], strict=False)]
    parts = [f"SELECT 'changed' AS change, {', '.join([*key, *changed])} FROM pairs"]
    for word, side, named in (("removed", 0, old), ("added", 1, new)):
        gone = f"(SELECT * FROM differing WHERE n = 1 AND lo = {side})"
        parts.append(
            f"SELECT '{word}' AS change, {', '.join([*key, *named])} FROM {SIDES[side]} x "
            f"SEMI JOIN {gone} d ON {columns.matching('x', 'd')}"
        )
    return " UNION ALL BY NAME ".join(parts)


def _collect_unmatched(connection: Any, columns: Columns) -> None:
    """Fill `unmatched_before` and `unmatched_after` with rows that the other side has not."""
    everything = ", ".join(f"c{place}" for place in range(len(columns.names)))
    rest = ", ".join(f"c{place}" for place in columns.others if place != columns.label)
    rest = f"hash({rest})" if rest else "0::UBIGINT"
    union = " UNION ALL ".join(
        f"SELECT hash({everything}) AS h, {sign} AS sign FROM {side}"
        for side, sign in zip(SIDES, (-1, 1), strict=True)
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE differing AS "
        "SELECT h, count(*) FILTER (sign > 0) - count(*) FILTER (sign < 0) AS surplus "
        f"FROM ({union}) GROUP BY h HAVING surplus <> 0"
    )
    for side, sign in zip(SIDES, (-1, 1), strict=True):
        # The rows of one hash are alike, so any of them may stand for those that are too many.
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE unmatched_{side} AS "
            f"WITH hashed AS (SELECT *, hash({everything}) AS h, {rest} AS rest FROM {side}), "
            "numbered AS (SELECT hashed.*, surplus, row_number() OVER (PARTITION BY h) AS again "
            f"FROM hashed JOIN differing USING (h) WHERE {sign} * surplus > 0) "
            "SELECT * EXCLUDE (h, surplus, again), "
            "row_number() OVER (PARTITION BY rest ORDER BY h) AS turn "
            f"FROM numbered WHERE again <= {sign} * surplus"
        )


def _relabelled_by_content(connection: Any, path: str, label: int | None) -> list[Relabelled]:
    query = (
        f"SELECT rest, {_as_text(f'b.c{label}')}, {_as_text(f'a.c{label}')} "
        "FROM unmatched_before b JOIN unmatched_after a USING (rest, turn) "
        f"ORDER BY rest, turn LIMIT {MOST_RELABELLED}"
    )
    return [
        Relabelled(path=f"{path}:{rest:016x}"[: len(path) + 13], before=old, after=new)
        for rest, old, new in connection.execute(query).fetchall()
    ]


def _unmatched_rows(columns: Columns) -> str:
    said = _told_apart(["change", *columns.names])[1:]
    named = ", ".join(f"c{place} AS {name}" for place, name in enumerate(said))
    return (
        f"SELECT 'removed' AS change, {named} FROM unmatched_before UNION ALL "
        f"SELECT 'added' AS change, {named} FROM unmatched_after"
    )


def _told_apart(names: list[str]) -> list[str]:
    """Quote the names of columns; one that is there already, in any case, gets a number."""
    taken: dict[str, str] = {}  # insertion keeps the order of the names
    for name in names:
        free, number = name, 1
        while free.lower() in taken:
            number += 1
            free = f"{name}_{number}"
        taken[free.lower()] = quoted(free)
    return list(taken.values())


def _write(connection: Any, place: Path | None, query: str) -> str | None:
    if place is None:
        return None
    beside = place.with_name(f".{place.name}.tmp")
    place.parent.mkdir(parents=True, exist_ok=True)
    connection.execute(f"COPY ({query}) TO {text(beside)} (FORMAT parquet, COMPRESSION zstd)")
    files.sync_file(beside)
    files.move(beside, place)
    return str(place)


def _as_texts(before: str, after: str) -> Iterator[str]:
    """Cut two values; where they begin alike, their lengths and hashes tell them apart."""
    alike = f"{_as_text(before)} = {_as_text(after)} AND length({_as_text(before)}) = {CUT}"
    for one in (before, after):
        text = f"CAST({one} AS VARCHAR)"
        told = f"left({text}, 100) || '... (' || length({text}) || ' characters, md5 '"
        told = f"{told} || left(md5({text}), 8) || ')'"
        yield f"CASE WHEN {alike} THEN {told} ELSE {_as_text(one)} END"


def _as_text(expression: str) -> str:
    return f"left(CAST({expression} AS VARCHAR), {CUT})"
