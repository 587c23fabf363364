"""What is fast stays safe: damaged objects stop, nothing is lost, nothing half is named."""

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mlstack.records import data_folder, folder_changes
from mlstack.records.dvc import read_pointer
from mlstack.version.objects import Objects


@pytest.fixture
def two(snapshotted: Path, version) -> Path:
    """A project with two versions that differ in one picture."""
    first = pictures(snapshotted)[0]
    first.unlink()
    first.write_bytes(b"another")
    assert version("snapshot", "-m", "second").returncode == 0
    return snapshotted


def pictures(root: Path) -> list[Path]:
    return sorted((root / "data" / "digits" / "images").iterdir())


def cached(root: Path, path: Path) -> Path:
    state = data_folder.hash_folder(root / "data" / "digits")
    md5 = state.entries[path.relative_to(root / "data" / "digits").as_posix()]
    return object_of(root / ".dvc" / "cache", md5)


def object_of(store: Path, md5: str) -> Path:
    return store / "files" / "md5" / md5[:2] / md5[2:]


def spoil(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"x" * path.stat().st_size)


def test_a_damaged_object_is_not_pushed_and_neither_is_the_list(
    snapshotted, version, tmp_path
) -> None:
    victim = cached(snapshotted, pictures(snapshotted)[0])
    spoil(victim)

    done = version("push", "--set", f"versioning.remote={tmp_path / 'store'}")

    assert done.returncode == 3
    assert victim.name in done.stderr
    listing = read_pointer(snapshotted / "data" / "digits.dvc")
    assert not object_of(tmp_path / "store", listing.md5).exists()
    assert not object_of(tmp_path / "store", victim.parent.name + victim.name).exists()


def test_a_damaged_object_of_the_remote_is_not_laid_out(
    snapshotted, version, in_folder, tmp_path
) -> None:
    remote = ("--set", f"versioning.remote={tmp_path / 'store'}")
    assert version("push", *remote).returncode == 0
    inside = cached(snapshotted, pictures(snapshotted)[0]).relative_to(snapshotted / ".dvc/cache")
    spoil(tmp_path / "store" / inside)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(snapshotted), str(clone)], check=True)

    done = in_folder(clone)("version", "pull", *remote)

    assert done.returncode == 3
    assert inside.name in done.stderr
    assert not (clone / "data" / "digits").exists()
    assert not (clone / ".dvc" / "cache" / inside).exists()


def test_a_checkout_needs_of_the_cache_only_what_it_places(two, version) -> None:
    shared, placed = (cached(two, picture) for picture in pictures(two)[1::-1])
    shared.unlink()

    fine = version("checkout", "HEAD~1")
    placed_again = version("checkout", "HEAD")

    assert fine.returncode == 0, fine.stderr
    assert placed_again.returncode == 0, placed_again.stderr
    version("checkout", "HEAD~1")
    placed.unlink()
    refused = version("checkout", "HEAD")
    assert refused.returncode == 3
    assert "1 file of version" in refused.stderr


def test_a_checkout_refuses_to_replace_what_the_cache_has_lost(two, version) -> None:
    replaced = pictures(two)[0]
    cached(two, replaced).unlink()

    done = version("checkout", "HEAD~1")

    assert done.returncode == 3
    assert "in no snapshot" in done.stderr
    assert replaced.read_bytes() == b"another"


def test_a_checkout_does_not_trust_a_damaged_list(two, version) -> None:
    listing = read_pointer(two / "data" / "digits.dvc")
    spoil(object_of(two / ".dvc" / "cache", listing.md5))

    done = version("checkout", "HEAD~1")

    assert done.returncode == 3
    assert pictures(two)[0].read_bytes() == b"another"


def test_a_folder_that_a_kill_left_half_laid_is_no_trouble(snapshotted, version, tmp_path) -> None:
    whole = data_folder.hash_folder(snapshotted / "data" / "digits").md5
    (snapshotted / "data" / "digits").rename(tmp_path / "aside")
    left = snapshotted / ".mlstack" / "laying" / "images"
    left.mkdir(parents=True)
    (left / "odd.png").write_bytes(b"half")

    done = version("checkout", "HEAD")

    assert done.returncode == 0, done.stderr
    assert data_folder.hash_folder(snapshotted / "data" / "digits").md5 == whole
    assert not left.parent.exists()


def test_objects_come_into_folders_that_are_there_and_that_are_not(tmp_path: Path) -> None:
    store = Objects(tmp_path / "files" / "md5")
    names = [f"{folder:02x}{number:030x}" for folder in (1, 2) for number in range(3)]
    with store.filling() as filling:
        filling.add(names[0], b"0")

    with store.filling() as filling:
        for name in names[1:]:
            filling.add(name, b"0")

    assert not store.missing(names)
    assert not list(store.home.parent.glob(".mlstack-*"))
    assert [path.name for path in store.home.parent.iterdir()] == ["md5"]


@pytest.mark.parametrize("seed", range(20))
def test_what_differs_is_found_by_halves(seed: int) -> None:
    chance = random.Random(seed)
    old = [chance.randbytes(4) for _ in range(chance.randrange(200))]
    new = [chance.choice([item, chance.randbytes(4)]) if seed % 3 else item for item in old]

    found = list(folder_changes.differing(b"".join(old), b"".join(new), 4))

    assert found == [at for at, item in enumerate(old) if item != new[at]]


def test_a_changed_file_is_named_whatever_else_git_sees(snapshotted, version, answer) -> None:
    (snapshotted / "data" / "new folder").mkdir()
    (snapshotted / "data" / "new folder" / "ä b.txt").write_text("not ours")
    pictures(snapshotted)[0].unlink()

    done = answer("snapshot", "-m", "one less")

    shown: Callable[..., str] = subprocess.check_output
    names = shown(["git", "show", "--name-only", "--format="], cwd=snapshotted, text=True)
    assert done["removed"] == 1
    assert names.split() == ["data/digits.dvc"]
