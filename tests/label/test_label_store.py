import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from mlstack.errors import BusyError, DataError, MachineError
from mlstack.label import store
from mlstack.label.opinions import current, ledger, majority
from mlstack.label.store import Draft, Undo, Writer


def test_a_retried_request_writes_one_event(tmp_path: Path) -> None:
    wish = Draft("ann", "a.png", "label", "cat", client_id="x")

    with Writer(tmp_path / "labels.db") as writer:
        first = writer.submit(wish).result()
        second = writer.submit(wish).result()

    assert first.fresh
    assert not second.fresh
    assert second.event == first.event
    assert len(store.read_events(tmp_path / "labels.db")) == 1


def test_undo_takes_back_the_newest_answer_that_stands(tmp_path: Path) -> None:
    with Writer(tmp_path / "labels.db") as writer:
        for draft in (
            Draft("ann", "a.png", "label", "cat"),
            Draft("ann", "a.png", "label", "dog"),
            Draft("ann", "b.png", "skip"),
            Draft("bob", "c.png", "label", "dog"),
        ):
            writer.submit(draft).result()
        undone = [writer.submit(Undo("ann", f"u{n}")).result() for n in range(4)]
        retried = writer.submit(Undo("ann", "u0")).result()

    assert [u.undone and (u.undone.path, u.undone.label) for u in undone] == [
        ("b.png", None),
        ("a.png", "dog"),
        ("a.png", "cat"),
        None,
    ]
    assert retried.undone is not None
    assert retried.undone.path == "b.png"
    assert not retried.fresh
    assert current(ledger(store.read_events(tmp_path / "labels.db"))) == {"c.png": {"bob": "dog"}}


def test_events_can_neither_be_changed_nor_deleted(tmp_path: Path) -> None:
    path = tmp_path / "labels.db"
    store.append(path, [Draft("ann", "a.png", "label", "cat")])

    with sqlite3.connect(path) as connection:
        for statement in ("UPDATE events SET label = 'dog'", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(statement)
    connection.close()


def test_many_writers_share_one_sync_and_lose_nothing(tmp_path: Path) -> None:
    with Writer(tmp_path / "labels.db") as writer:

        def type_fast(name: str) -> None:
            for number in range(50):
                writer.submit(Draft(name, f"{number}.png", "label", "cat")).result()

        threads = [threading.Thread(target=type_fast, args=(f"p{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    events = store.read_events(tmp_path / "labels.db")
    assert [event.seq for event in events] == list(range(1, 401))
    assert len({(event.annotator, event.path) for event in events}) == 400


def test_an_import_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "labels.db"
    drafts = [Draft("ann", "a.png", "label", "cat"), Draft("ann", "b.png", "dance")]

    with pytest.raises(DataError):
        store.append(path, drafts)

    assert store.read_events(path) == []


def test_a_file_that_is_no_database_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "labels.db"
    path.write_bytes(b"this is not SQLite" * 100)

    with pytest.raises(DataError, match="damaged"):
        store.read_events(path)
    with pytest.raises(DataError, match="damaged"):
        store.create(path)
    assert store.damage(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file, not a folder")

    with pytest.raises(MachineError, match=r"cannot write .*labels\.db"):
        store.create(tmp_path / "state" / "labels.db")


def test_a_file_that_another_program_holds_is_busy(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(store, "BUSY_S", 0.05)
    path = tmp_path / "labels.db"
    store.append(path, [Draft("ann", "a.png", "label", "cat")])

    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BusyError, match=r"another program holds .*labels\.db"):
            store.append(path, [Draft("ann", "b.png", "label", "cat")])

    assert store.append(path, [Draft("ann", "b.png", "label", "cat")]) == 1


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.db"
    store.append(path, [Draft("ann", "a.png", "label", "cat")])
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(DataError, match="newer mlstack"):
        store.read_events(path)


def test_what_can_be_read_of_a_damaged_file_is_saved(tmp_path: Path) -> None:
    path, fresh = tmp_path / "labels.db", tmp_path / "fresh.db"
    store.append(path, [Draft("ann", f"{n:04d}.png", "label", "cat") for n in range(2000)])
    content = bytearray(path.read_bytes())
    middle = len(content) // 4096 // 4 * 4096
    content[middle : middle + 4096] = b"\xff" * 4096
    path.write_bytes(content)

    damage = store.damage(path)
    saved = store.salvage(path)
    store.restore(fresh, saved)

    assert damage
    assert 1500 < len(saved) < 2000
    assert store.read_events(fresh) == saved


def test_a_tie_is_no_majority() -> None:
    assert majority({"a": "cat", "b": "dog"}) is None
    assert majority({"a": "cat", "b": "dog", "c": "dog"}) == "dog"
