"""Whether a cache is known to be whole by the times of its folders."""

import os
from pathlib import Path

import pytest

from mlstack.version import kept
from mlstack.version.objects import Objects

VERSION = "0" * 32 + ".dir"


@pytest.fixture
def store(tmp_path: Path) -> Objects:
    store = Objects(tmp_path / "files" / "md5")
    for name in ("aa/1", "aa/2", "bb/3"):
        (store.home / name).parent.mkdir(parents=True, exist_ok=True)
        (store.home / name).touch()
    return store


def test_a_cache_that_nobody_touched_holds_the_version_that_was_noted(
    store: Objects, tmp_path: Path
) -> None:
    kept.note(tmp_path / "noted", VERSION, store)

    assert kept.holds(tmp_path / "noted", VERSION, store)


@pytest.mark.parametrize("name", ["aa/1", "bb/3"])
def test_an_object_that_is_taken_away_makes_it_doubtful(
    store: Objects, tmp_path: Path, name: str
) -> None:
    kept.note(tmp_path / "noted", VERSION, store)
    (store.home / name).unlink()

    assert not kept.holds(tmp_path / "noted", VERSION, store)


def test_so_do_a_folder_that_is_gone_another_version_another_cache_and_half_a_note(
    store: Objects, tmp_path: Path
) -> None:
    noted = tmp_path / "noted"
    kept.note(noted, VERSION, store)
    elsewhere = Objects(tmp_path / "elsewhere")
    store.home.rename(elsewhere.home)

    assert not kept.holds(noted, VERSION, store)
    assert not kept.holds(noted, VERSION, elsewhere)
    elsewhere.home.rename(store.home)
    assert kept.holds(noted, VERSION, store)
    assert not kept.holds(noted, "1" * 32 + ".dir", store)
    noted.write_bytes(noted.read_bytes()[:40])
    assert not kept.holds(noted, VERSION, store)


def test_nothing_is_noted_where_a_folder_has_a_time_that_a_removal_could_have_too(
    store: Objects, tmp_path: Path
) -> None:
    later = (store.home / "aa").stat().st_mtime_ns + 10**12
    os.utime(store.home / "aa", ns=(later, later))

    kept.note(tmp_path / "noted", VERSION, store)

    assert not (tmp_path / "noted").exists()
