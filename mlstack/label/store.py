"""The label events in SQLite: synced before they are acknowledged, never changed afterwards."""

import queue
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mlstack import files
from mlstack.errors import BusyError, DataError, MachineError, MlstackError
from mlstack.records.labels import SCHEMA, SCHEMA_VERSION, LabelEvent, last_event_file

COLUMNS = "seq, at, annotator, path, action, label, undoes, seconds"
BUSY_S = 5.0


@dataclass(frozen=True)
class Draft:
    """An event before it has a place in the sequence."""

    annotator: str
    path: str
    action: str
    label: str | None = None
    undoes: int | None = None
    seconds: float | None = None
    client_id: str | None = None


@dataclass(frozen=True)
class Undo:
    """A wish to take back the annotator's newest event that still stands, of one item or of all."""

    annotator: str
    client_id: str | None = None
    path: str | None = None


@dataclass(frozen=True)
class Written:
    """What became of a wish: the durable event, and the event that it takes back.

    `fresh` is false when the same `client_id` was written before. `event` is None when there
    was nothing to undo.
    """

    event: LabelEvent | None
    undone: LabelEvent | None = None
    fresh: bool = True


def create(path: Path) -> sqlite3.Connection:
    """Open the events for writing, after a quick check of the file.

    Raises:
        DataError: the file is damaged or from a newer mlstack.
        MachineError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=BUSY_S
        )
    except (OSError, sqlite3.OperationalError) as error:
        raise _failure(path, error) from error
    try:
        with _named(path):
            _check(path, connection)
            connection.execute("PRAGMA journal_mode = WAL")
            # Per connection, and FULL: an acknowledged label survives a power cut.
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(SCHEMA)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except BaseException:
        connection.close()
        raise
    return connection


def read_events(path: Path) -> list[LabelEvent]:
    """Read all events in order; none when there is no file yet.

    Raises:
        DataError: the file is damaged.
    """
    if not path.is_file():
        return []
    with _named(path), closing(_reader(path)) as connection:
        _check(path, connection)
        if not _has_events(connection):
            return []
        rows = connection.execute(f"SELECT {COLUMNS} FROM events ORDER BY seq")
        return [_event(row) for row in rows]


def append(path: Path, drafts: Iterable[Draft]) -> int:
    """Write many events in one transaction, all or none; give their number."""
    with closing(create(path)) as connection, _named(path):
        with _transaction(connection):
            count = sum(1 for draft in drafts if _insert(connection, draft).fresh)
        _tell_last(path, connection)
        return count


def damage(path: Path) -> str:
    """Say what a thorough check of the file finds wrong; "" when it is whole."""
    try:
        with closing(_reader(path)) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchone()[0]
            return "" if found == "ok" else str(found).splitlines()[0]
    except sqlite3.DatabaseError as error:
        return str(error)


def salvage(path: Path) -> list[LabelEvent]:
    """Read every event of a damaged file that can still be read, page by page."""
    found: list[LabelEvent] = []
    with closing(_reader(path)) as connection:
        seq, misses = 0, 0
        while misses < 10_000:
            seq += 1
            try:
                row = connection.execute(
                    f"SELECT {COLUMNS} FROM events WHERE seq = ?", (seq,)
                ).fetchone()
                found.extend([_event(row)] if row else [])
            except (sqlite3.DatabaseError, TypeError, ValueError):
                row = None
            misses = 0 if row else misses + 1
    return found


def restore(path: Path, events: Iterable[LabelEvent]) -> None:
    """Write a fresh file with events that keep their numbers."""
    with closing(create(path)) as connection, _named(path):
        with _transaction(connection):
            connection.executemany(
                f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (e.seq, e.at, e.annotator, e.path, e.action, e.label, e.undoes, e.seconds)
                    for e in events
                ],
            )
        _tell_last(path, connection)


class Writer:
    """One thread writes what many requests want; those that wait share one sync.

    A future gets its result only after the commit is durable.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = create(path)
        self._wishes: queue.SimpleQueue[tuple[Draft | Undo, Future[Written]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="label-writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._wishes.put(None)
        self._thread.join()
        self._connection.close()

    def submit(self, wish: Draft | Undo) -> "Future[Written]":
        """Ask for an event; the future resolves once it is on the disk."""
        future: Future[Written] = Future()
        future.set_running_or_notify_cancel()  # what was asked for is written, come what may
        self._wishes.put((wish, future))
        return future

    def _run(self) -> None:
        while (first := self._wishes.get()) is not None:
            batch = [first]
            while not self._wishes.empty():
                following = self._wishes.get()
                if following is None:
                    self._commit(batch)
                    return
                batch.append(following)
            self._commit(batch)

    def _commit(self, batch: list[tuple[Draft | Undo, "Future[Written]"]]) -> None:
        try:
            with _named(self._path), _transaction(self._connection):
                written = [_write(self._connection, wish) for wish, _ in batch]
        except Exception as error:  # handed on; a dead writer would leave everybody waiting
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), result in zip(batch, written, strict=True):
            future.set_result(result)
        _tell_last(self._path, self._connection)


def _write(connection: sqlite3.Connection, wish: Draft | Undo) -> Written:
    if isinstance(wish, Draft):
        return _insert(connection, wish)
    if wish.client_id and (known := _by_client(connection, wish.client_id)):
        return Written(known, _by_seq(connection, known.undoes), fresh=False)
    row = connection.execute(
        f"SELECT {COLUMNS} FROM events e WHERE annotator = ? AND action IN ('label', 'skip')"
        " AND path = ifnull(?, path)"
        " AND NOT EXISTS (SELECT 1 FROM events u WHERE u.undoes = e.seq)"
        " ORDER BY seq DESC LIMIT 1",
        (wish.annotator, wish.path),
    ).fetchone()
    if row is None:
        return Written(None)
    target = _event(row)
    draft = Draft(wish.annotator, target.path, "undo", undoes=target.seq, client_id=wish.client_id)
    return Written(_insert(connection, draft).event, target)


def _insert(connection: sqlite3.Connection, draft: Draft) -> Written:
    row = connection.execute(
        "INSERT INTO events (at, annotator, path, action, label, undoes, seconds, client_id)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (client_id) DO NOTHING"
        f" RETURNING {COLUMNS}",
        (
            time.time(),
            draft.annotator,
            draft.path,
            draft.action,
            draft.label,
            draft.undoes,
            draft.seconds,
            draft.client_id,
        ),
    ).fetchone()
    if row is not None:
        return Written(_event(row))
    return Written(_by_client(connection, draft.client_id or ""), fresh=False)


def _by_client(connection: sqlite3.Connection, client_id: str) -> LabelEvent | None:
    row = connection.execute(
        f"SELECT {COLUMNS} FROM events WHERE client_id = ?", (client_id,)
    ).fetchone()
    return _event(row) if row else None


def _by_seq(connection: sqlite3.Connection, seq: int | None) -> LabelEvent | None:
    row = connection.execute(f"SELECT {COLUMNS} FROM events WHERE seq = ?", (seq,)).fetchone()
    return _event(row) if row else None


def _tell_last(path: Path, connection: sqlite3.Connection) -> None:
    """Note the number of the last event for DVC; nobody waits for it, and no label hangs on it."""
    with suppress(MachineError, sqlite3.Error):  # `mlstack run` writes it again
        (number,) = connection.execute("SELECT max(seq) FROM events").fetchone()
        files.write_hint(last_event_file(path), f"{number or 0}\n")


def _event(
    row: tuple[int, float, str, str, str, str | None, int | None, float | None],
) -> LabelEvent:
    seq, at, annotator, path, action, label, undoes, seconds = row
    return LabelEvent(
        seq=seq,
        at=at,
        annotator=annotator,
        path=path,
        action=action,
        label=label,
        undoes=undoes,
        seconds=seconds,
    )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what SQLite says into our own errors."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _failure(path, error) from error


def _failure(path: Path, error: Exception) -> MlstackError:
    words = str(error)
    if "full" in words:
        return MachineError(
            "the disk is full; the label was not written", hint="free some space", where=str(path)
        )
    if isinstance(error, sqlite3.OperationalError) and "locked" in words:
        return BusyError(
            f"another program holds `{path}`", hint="close what has it open, then try again"
        )
    if isinstance(error, OSError | sqlite3.OperationalError) and "malformed" not in words:
        return MachineError(
            f"cannot write `{path}`: {words}", hint="check the folder's permissions"
        )
    return _damaged(path, words)


def _damaged(path: Path, words: str) -> DataError:
    return DataError(
        f"`{path}` is damaged: {words}",
        hint="type `mlstack label rebuild`; it saves every label that can still be read",
    )


def _check(path: Path, connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise DataError(
            f"`{path}` was written by a newer mlstack (format {version})", hint="upgrade mlstack"
        )
    found = connection.execute("PRAGMA quick_check").fetchone()[0]
    if found != "ok":
        raise _damaged(path, str(found).splitlines()[0])


def _has_events(connection: sqlite3.Connection) -> bool:
    """Tell whether the table is there; a server killed while it starts may leave an empty file."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'events'"
    return connection.execute(query).fetchone() is not None


def _reader(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
