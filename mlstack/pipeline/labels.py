"""How many label events there are, as a file that DVC can watch.

`labels.db` itself cannot be a dependency: SQLite keeps new events in a file beside it for a while
and rewrites pages without any event. The number of the last event changes with every label and
with nothing else; `mlstack run` writes it before it looks at the stages.
"""

import hashlib
import sqlite3
from pathlib import Path

from mlstack import files
from mlstack.errors import DataError, MachineError
from mlstack.pipeline.stages import EVENTS
from mlstack.records.layout import Layout


def last_event(layout: Layout) -> int | None:
    """Give the number of the last label event; None where nobody labels.

    Raises:
        DataError: the database is damaged.
        MachineError: it cannot be read now, because the disk is full, or locked for long.
    """
    return _number(layout, "SELECT max(seq) FROM events")


def events_since(layout: Layout, at_s: float) -> int:
    """Count the label events after a time in seconds since the epoch.

    Raises:
        DataError: the database is damaged.
        MachineError: it cannot be read now, because the disk is full, or locked for long.
    """
    return _number(layout, "SELECT count(*) FROM events WHERE at > ?", at_s) or 0


def _number(layout: Layout, question: str, *values: float) -> int | None:
    path = layout.labels_db
    if not path.is_file():
        return None
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            if not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
                return 0  # begun on a full disk or killed: nothing is labeled yet
            (number,) = connection.execute(question, values).fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        raise MachineError(
            f"the labels cannot be read now: {error}", hint="is the disk full?", where=str(path)
        ) from error
    except sqlite3.Error as error:
        raise DataError(
            f"the labels cannot be read: {error}",
            hint="type `mlstack label rebuild`",
            where=str(path),
        ) from error
    return int(number or 0)


def events_md5(layout: Layout) -> str | None:
    """Hash what the file that stands for the label events should hold; None where nobody labels."""
    number = last_event(layout)
    if number is None:
        return None
    return hashlib.md5(f"{number}\n".encode(), usedforsecurity=False).hexdigest()


def write_last_event(root: Path, number: int | None = None) -> int | None:
    """Write the file that stands for the label events; give the number in it.

    Args:
        root: the project.
        number: the last event that counts; None asks the database.
    """
    number = last_event(Layout(root)) if number is None else number
    content = f"{number}\n"
    path = root / EVENTS
    if number is not None and not (path.is_file() and path.read_text() == content):
        files.write_text(path, content)
    return number
