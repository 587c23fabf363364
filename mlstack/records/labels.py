"""Label events: `.mlstack/labels.db`, append-only, one row for everything a person did.

`.mlstack/stages/labels.events` holds the number of the last one, as a file that DVC can watch.
"""

from pathlib import Path

from mlstack.records.base import Record

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,              -- seconds since the epoch, UTC
    annotator TEXT NOT NULL,
    path TEXT NOT NULL,            -- relative to the dataset folder
    action TEXT NOT NULL CHECK (action IN ('label', 'skip', 'undo')),
    label TEXT,                    -- the class; null for skip and undo
    undoes INTEGER,                -- seq of the event that an undo takes back
    seconds REAL,                  -- time the item was looked at
    client_id TEXT UNIQUE          -- makes a retried request harmless
);
CREATE INDEX IF NOT EXISTS events_by_path ON events (path, seq);
CREATE INDEX IF NOT EXISTS events_by_annotator ON events (annotator, seq);
CREATE UNIQUE INDEX IF NOT EXISTS events_undone ON events (undoes) WHERE undoes IS NOT NULL;
CREATE TRIGGER IF NOT EXISTS events_never_change BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'label events are append-only'); END;
CREATE TRIGGER IF NOT EXISTS events_never_go BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'label events are append-only'); END;
"""


class LabelEvent(Record, frozen=True, kw_only=True, tag="label.event"):
    """One row of the events table."""

    seq: int
    at: float
    annotator: str
    path: str
    action: str
    label: str | None = None
    undoes: int | None = None
    seconds: float | None = None


def last_event_file(labels_db: Path) -> Path:
    """Give the file beside a database that holds the number of its last event."""
    return labels_db.parent / "stages" / "labels.events"
