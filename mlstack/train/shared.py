"""The runs of every machine in one list: the index of `.mlstack/runs.db`, in Postgres.

The folders stay what is true. The list is brought up to date by whoever asks for it and at the end
of each training; a machine only ever touches the rows of its own runs.
"""

import socket
from typing import Any

import msgspec
from msgspec import structs

from mlstack.config import Project
from mlstack.launch.postgres import Address, connected
from mlstack.records.layout import Layout
from mlstack.records.run import run_ids
from mlstack.train import store
from mlstack.train.results import RunRow

# A table of another shape gets another name: older versions of mlstack go on with theirs.
SCHEMA = """
SELECT pg_advisory_xact_lock(hashtext('mlstack_runs_v1'));
CREATE TABLE IF NOT EXISTS mlstack_runs_v1 (
    project TEXT NOT NULL,
    id TEXT NOT NULL,
    host TEXT NOT NULL,
    root TEXT NOT NULL,            -- folder of the project there
    stamp TEXT NOT NULL,           -- size and time of the events; another one, another look
    row JSONB NOT NULL,            -- what `mlstack train ls --json` gives
    PRIMARY KEY (project, id)
);
CREATE TABLE IF NOT EXISTS mlstack_metrics_v1 (
    project TEXT NOT NULL,
    run TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    step INTEGER NOT NULL,
    name TEXT NOT NULL,
    value DOUBLE PRECISION,
    PRIMARY KEY (project, run, epoch, name),
    FOREIGN KEY (project, run) REFERENCES mlstack_runs_v1 (project, id) ON DELETE CASCADE
);
"""
KNOWN = "SELECT id, stamp FROM mlstack_runs_v1 WHERE (project, host, root) = (%s, %s, %s)"
DROP = "DELETE FROM mlstack_runs_v1 WHERE (project, id) = (%s, %s)"
PUT = "INSERT INTO mlstack_runs_v1 VALUES (%s, %s, %s, %s, %s, %s)"
PUT_METRICS = "INSERT INTO mlstack_metrics_v1 VALUES (%s, %s, %s, %s, %s, %s)"
LIST = "SELECT row::text, host, root FROM mlstack_runs_v1 WHERE project = %s ORDER BY id DESC"


def rows(project: Project) -> list[RunRow]:
    """Bring the list up to date with the runs here; give those of all machines, newest first.

    Raises:
        ConfigError: the server refuses who asks.
        BusyError: it cannot be reached.
    """
    track, layout = project.config.track, Layout(project.root)
    here = (socket.gethostname(), str(project.root.resolve()))
    address = Address(track.store, track.password, "track.store", "track.password")
    with connected(address) as connection:
        connection.execute(SCHEMA)
        _refresh(connection, layout, (project.config.project.name, *here))
        stored = connection.execute(LIST, [project.config.project.name]).fetchall()
    found = [
        structs.replace(
            msgspec.json.decode(text, type=RunRow), host="" if (host, root) == here else host
        )
        for text, host, root in stored
    ]
    alive = {row.id: row for row in store.alive(layout, [row for row in found if not row.host])}
    return [row if row.host else alive[row.id] for row in found]


def _refresh(connection: Any, layout: Layout, mine: tuple[str, str, str]) -> None:
    project = mine[0]
    known = dict(connection.execute(KNOWN, mine).fetchall())
    there = {run_id: store.stamp(layout.run(run_id)) for run_id in run_ids(layout.runs)}
    changed = [run_id for run_id, stamp in there.items() if known.get(run_id) != stamp]
    with connection.cursor() as cursor:
        cursor.executemany(DROP, [(project, one) for one in known.keys() - there.keys()])
        for run_id in changed:
            row, metrics = store.look(layout.run(run_id))
            content = msgspec.json.encode(row).decode()
            cursor.execute(DROP, (project, run_id))
            cursor.execute(PUT, (project, run_id, *mine[1:], there[run_id], content))
            cursor.executemany(PUT_METRICS, [(project, *metric) for metric in metrics])
