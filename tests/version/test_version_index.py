"""The index of a folder: what it spares, and that no change hides from it."""

import json
import os
import random
import threading
import time
from pathlib import Path

import pytest
from test_version_hash import dvc_hash, grow

from mlstack.errors import DataError
from mlstack.records import file_hash, folder_index
from mlstack.records.data_folder import hash_folder, listing_bytes, look, md5_of

OLD_NS = time.time_ns() - 60_000_000_000


def make(folder: Path, count: int = 30) -> Path:
    """Write files that were last written a minute ago."""
    for number in range(count):
        path = folder / f"part {number % 3}" / f"é{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%06d" % number)
        os.utime(path, ns=(OLD_NS, OLD_NS))
    return folder


def unread(folder: Path, index: Path) -> list[str]:
    """Name the files that would be read again."""
    return sorted(Path(path).name for path, _ in look(folder, index).found())


def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    data, index = make(tmp_path / "data"), tmp_path / "index"

    first = hash_folder(data, index)

    assert unread(data, index) == []
    again = hash_folder(data, index)
    assert (again.md5, again.entries, again.sizes) == (first.md5, first.entries, first.sizes)
    assert again.md5 == hash_folder(data).md5 == dvc_hash(data, tmp_path / "cache")


@pytest.mark.parametrize("seed", range(10))
def test_after_random_changes_the_hash_is_that_of_dvc(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    data, index = tmp_path / "data", tmp_path / "index"
    grow(data, chance)
    hash_folder(data, index)

    for round_number in range(4):
        there = sorted(path for path in data.rglob("*") if path.is_file())
        for path in chance.sample(there, min(3, len(there))):
            match chance.randrange(4):
                case 0:
                    path.unlink()
                case 1:
                    path.write_bytes(chance.randbytes(path.stat().st_size))
                case 2:
                    path.rename(path.with_name(f"{path.name}{round_number}"))
                case 3:
                    path.with_name(f"new {round_number} {path.name}").write_bytes(b"new")

        assert hash_folder(data, index).md5 == dvc_hash(data, tmp_path / "cache")


def test_a_file_changed_under_the_same_size_and_time_is_read_again(tmp_path: Path) -> None:
    data, index = make(tmp_path / "data"), tmp_path / "index"
    before = hash_folder(data, index)
    path = data / "part 0" / "é0.bin"

    path.write_bytes(b"XXXXXX")
    os.utime(path, ns=(OLD_NS, OLD_NS))

    assert unread(data, index) == ["é0.bin"]
    assert hash_folder(data, index).md5 != before.md5


def test_a_file_written_just_before_the_look_is_read_once_more(tmp_path: Path) -> None:
    data, index = make(tmp_path / "data"), tmp_path / "index"
    (data / "fresh").write_text("fresh")
    hash_folder(data, index)

    assert unread(data, index) == ["fresh"]


def test_a_clock_set_back_hides_nothing(tmp_path: Path) -> None:
    data, index = make(tmp_path / "data"), tmp_path / "index"
    future = time.time_ns() + 3_600_000_000_000
    path = data / "part 1" / "é1.bin"
    os.utime(path, ns=(future, future))
    hash_folder(data, index)

    assert unread(data, index) == ["é1.bin"]  # its time says nothing; it is read each time
    path.write_bytes(b"XXXXXX")
    assert (
        hash_folder(data, index).entries["part 1/é1.bin"]
        == hash_folder(data).entries["part 1/é1.bin"]
    )


@pytest.mark.parametrize("damage", ["gone", "cut off", "not ours", "other version"])
def test_an_index_that_is_lost_costs_time_only(tmp_path: Path, damage: str) -> None:
    data, index = make(tmp_path / "data"), tmp_path / "index"
    first = hash_folder(data, index)
    match damage:
        case "gone":
            index.unlink()
        case "cut off":
            index.write_bytes(index.read_bytes()[:-20])
        case "not ours":
            index.write_bytes(b"\xff\x00 something else")
        case "other version":
            index.write_bytes(b"\x81\xa1v\x02")

    assert len(unread(data, index)) == 30
    assert hash_folder(data, index).md5 == first.md5
    assert unread(data, index) == []


def test_a_name_that_is_no_text_is_hashed_as_dvc_does(tmp_path: Path) -> None:
    data = make(tmp_path / "data", 3)
    Path(os.fsdecode(os.fsencode(data) + b"/\xff\xfe.bin")).write_bytes(b"odd")

    hashed = hash_folder(data, tmp_path / "index")

    assert hashed.md5 == dvc_hash(data, tmp_path / "cache")
    assert hash_folder(data, tmp_path / "index").md5 == hashed.md5


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "growing"
    path.write_bytes(bytes(64 << 20))
    stop = threading.Event()

    def grow_on() -> None:
        with path.open("ab", buffering=0) as stream:
            while not stop.wait(0.001):
                stream.write(b"more")

    writer = threading.Thread(target=grow_on)
    writer.start()
    try:
        with pytest.raises(DataError, match="changes while it is read"):
            list(file_hash.hash_files([(str(path), file_hash.stamp_of(path.stat()))]))
    finally:
        stop.set()
        writer.join()


def test_the_list_of_files_is_written_as_json_dumps_does(tmp_path: Path) -> None:
    names = ["b", "a/b", "a b", "é\u2028", 'q"\\', "tab\t\n", "\udcff", "z/日本"]
    entries = [(name, f"{number:032x}") for number, name in enumerate(names)]

    listing = listing_bytes(entries)

    expected = [{"relpath": path, "md5": md5} for path, md5 in sorted(entries)]
    assert listing == json.dumps(expected, sort_keys=True).encode()
    assert md5_of(listing).endswith(".dir")
    assert folder_index.MD5_BYTES == 16
