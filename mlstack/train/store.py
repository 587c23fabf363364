"""The index of the runs, `.mlstack/runs.db`: made from their folders, never the only copy.

Nothing in a training step waits for it: it is brought up to date when somebody asks.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec import structs

from mlstack.errors import BusyError, DataError
from mlstack.launch import at_work
from mlstack.records.base import read
from mlstack.records.layout import Layout
from mlstack.records.run import (
    EVENTS,
    SPEC,
    EpochEnded,
    RunEvent,
    RunSpec,
    RunSummary,
    read_events,
    run_ids,
    summarise,
)
from mlstack.train.results import RunRow

VERSION = 1
# The disk is full or read-only: the index is made in memory, from the folders, for this once.
UNWRITABLE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_IOERR,
)
SCHEMA = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    stamp TEXT NOT NULL,           -- size and time of the events; another one, another look
    row BLOB NOT NULL              -- RunRow as JSON
);
CREATE TABLE metrics (
    run TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    step INTEGER NOT NULL,
    name TEXT NOT NULL,
    value REAL,
    PRIMARY KEY (run, epoch, name)
);
"""


def rows(layout: Layout) -> list[RunRow]:
    """List all runs, newest first.

    Raises:
        BusyError: another process holds the index for long.
    """
    try:
        return _rows(layout, layout.runs_db)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in UNWRITABLE:
            return _rows(layout, Path(":memory:"))
        raise BusyError(f"`{layout.runs_db}`: {error}", hint="try again") from error
    except sqlite3.DatabaseError:  # damaged; the folders know everything
        for file in layout.runs_db.parent.glob(layout.runs_db.name + "*"):
            file.unlink()
        return _rows(layout, layout.runs_db)


def summary(run_folder: Path) -> RunSummary:
    """Summarise a run; one whose process is gone is stopped, whatever its events say."""
    return at_work.up_to_date(run_folder, summarise(run_folder))


def _rows(layout: Layout, place: Path) -> list[RunRow]:
    if not layout.runs.is_dir():
        return []
    with closing(_open(place)) as index:
        with index:
            _refresh(index, layout)
        stored = index.execute("SELECT row FROM runs ORDER BY id DESC").fetchall()
    found = [msgspec.json.decode(row, type=RunRow) for (row,) in stored]
    return alive(layout, found)


def alive(layout: Layout, found: list[RunRow]) -> list[RunRow]:
    """Look again at what only a living process, or a job, can keep true."""
    open_rows = [row for row in found if row.state not in ("finished", "damaged")]
    works = at_work.look([layout.run(row.id) for row in open_rows])
    changed = {}
    for row, work in zip(open_rows, works, strict=True):
        state, problem = at_work.now(row.state, row.problem, work)
        changed[row.id] = structs.replace(row, state=state, problem=problem)
    return [changed.get(row.id, row) for row in found]


def _open(path: Path) -> sqlite3.Connection:
    index = sqlite3.connect(path, timeout=10)
    try:
        index.execute("PRAGMA journal_mode=WAL")
        index.execute("PRAGMA synchronous=NORMAL")
        (version,) = index.execute("PRAGMA user_version").fetchone()
        if version != VERSION:
            index.executescript(
                "DROP TABLE IF EXISTS runs; DROP TABLE IF EXISTS metrics;"
                f"{SCHEMA} PRAGMA user_version = {VERSION};"
            )
    except BaseException:
        index.close()
        raise
    return index


def _refresh(index: sqlite3.Connection, layout: Layout) -> None:
    known = dict(index.execute("SELECT id, stamp FROM runs").fetchall())
    there = {run_id: stamp(layout.run(run_id)) for run_id in run_ids(layout.runs)}
    for run_id in known.keys() - there.keys():
        index.execute("DELETE FROM runs WHERE id = ?", (run_id,))
        index.execute("DELETE FROM metrics WHERE run = ?", (run_id,))
    for run_id, seen in there.items():
        if known.get(run_id) != seen:
            row, metrics = look(layout.run(run_id))
            content = msgspec.json.encode(row)
            index.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", (run_id, seen, content))
            index.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?)", metrics)


def stamp(folder: Path) -> str:
    """Give what changes whenever a run's events do."""
    try:
        events = (folder / EVENTS).stat()
    except FileNotFoundError:
        return "none"
    return f"{events.st_size}:{events.st_mtime_ns}"


def look(folder: Path) -> tuple[RunRow, list[tuple[str, int, int, str, float]]]:
    """Read a run's folder; a damaged one still has a row that says so."""
    try:
        spec = read(folder / SPEC, RunSpec)
        events = read_events(folder)
        found = summarise(folder)
    except DataError as error:
        return RunRow(id=folder.name, state="damaged", created="", problem=error.problem), []
    monitor = str(spec.config.get("train", {}).get("monitor", ""))
    row = RunRow(
        id=spec.id,
        state="running" if found.state == "new" else found.state,
        created=spec.created,
        epoch=found.epoch,
        epochs=found.epochs,
        monitor=monitor,
        value=best_metrics(events).get(monitor),
        dataset=spec.dataset.md5,
        mode=spec.mode,
        parent=spec.parent,
        study=spec.study,
        trial=spec.trial,
        problem=found.problem,
    )
    return row, list(_metrics(spec.id, events))


def best_metrics(events: list[RunEvent]) -> dict[str, float]:
    """Give the metrics of the best epoch, or of the last one when none is marked."""
    epochs = [e for e in events if isinstance(e, EpochEnded)]
    marked = [e for e in epochs if e.best] or epochs
    return marked[-1].metrics if marked else {}


def _metrics(run: str, events: list[RunEvent]) -> Iterator[tuple[str, int, int, str, float]]:
    for event in events:
        if isinstance(event, EpochEnded):
            for name, value in event.metrics.items():
                yield run, event.epoch, event.step, name, value
