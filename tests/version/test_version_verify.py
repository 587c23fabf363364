"""`version verify`: every damage is found and, with --fix, mended from wherever it is whole."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlstack.records import data_folder
from mlstack.version import integrity


def object_of(project: Path, name: str) -> Path:
    md5 = data_folder.hash_folder(project / "data" / "digits").entries[name]
    return project / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def damage(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"rot")


def test_damage_is_mended_from_the_folder(snapshotted, version, answer, dvc_status) -> None:
    path = object_of(snapshotted, "images/0007.png")
    whole = path.read_bytes()
    damage(path)

    found, mended = version("verify"), answer("verify", "--fix")

    assert found.returncode == 3
    assert "verify --fix" in found.stderr
    assert mended["mended"] == 1
    assert path.read_bytes() == whole
    assert path.stat().st_mode & 0o777 == 0o444
    assert "up to date" in dvc_status()


def test_damage_is_mended_from_the_remote_when_the_folder_has_another_version(
    snapshotted, version, answer, tmp_path
) -> None:
    remote = ("--set", f"versioning.remote={tmp_path / 'store'}")
    images = snapshotted / "data" / "digits" / "images"
    (images / "more.png").write_bytes(b"more")
    answer("snapshot", "-m", "with one more")
    path = object_of(snapshotted, "images/more.png")
    whole = path.read_bytes()
    assert version("push", *remote).returncode == 0
    (images / "more.png").unlink()
    answer("snapshot", "-m", "without it")
    damage(path)

    mended = answer("verify", "--fix", *remote)

    assert mended["mended"] == 1
    assert path.read_bytes() == whole


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_cache_that_is_gone_is_filled_from_a_folder_that_is_the_version(
    snapshotted, version, answer, dvc_status, is_changed: bool
) -> None:
    cache = snapshotted / ".dvc" / "cache"
    before = {path.relative_to(cache) for path in cache.rglob("*") if path.is_file()}
    shutil.rmtree(cache)
    if is_changed:
        (snapshotted / "data" / "digits" / "images" / "0007.png").write_bytes(b"other")

    done = version("verify", "--fix")

    if is_changed:
        assert done.returncode == 3
        assert "neither the folder nor the remote" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert {p.relative_to(cache) for p in cache.rglob("*") if p.is_file()} >= before
    assert answer("verify")["absent"] == 0
    assert "up to date" in dvc_status()


def test_what_cannot_be_mended_is_named_and_kept_aside(snapshotted, version) -> None:
    path = object_of(snapshotted, "images/0007.png")
    damage(path)
    shutil.rmtree(snapshotted / "data" / "digits")

    done = version("verify", "--fix")

    assert done.returncode == 3
    assert "images/0007.png" in done.stderr
    assert "neither the folder nor the remote" in done.stderr
    aside = snapshotted / ".dvc" / "cache" / "trash" / "damaged" / path.parent.name / path.name
    assert aside.read_bytes() == b"rot"


def test_pieces_of_work_hold_every_object_once_and_large_ones_alone() -> None:
    sizes = {f"{number:032d}": number % 7 for number in range(1000)} | {"large": 1 << 30}

    pieces = list(integrity._pieces(sizes))

    assert sorted(one for piece in pieces for one in piece) == sorted(sizes)
    assert ["large"] in pieces
    assert max(map(len, pieces)) == integrity.BATCH_FILES


SCRIPT = """
import resource, sys
from pathlib import Path
from mlstack.version import integrity
cache = Path(sys.argv[1])
sizes = {p.parent.name + p.name: p.stat().st_size for p in cache.rglob("*") if p.is_file()}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in integrity._hash(cache, sizes):
    pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_large_objects_are_hashed_in_little_memory(tmp_path: Path) -> None:
    for number in range(3):
        path = tmp_path / "ab" / f"{number:030d}"
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as stream:
            stream.write(os.urandom(1 << 20) * 200)

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert int(done.stdout) < 50  # MiB; the files have 200 each


def test_ten_thousand_damaged_objects_are_named_as_fast_as_they_are_hashed(tmp_path: Path) -> None:
    """Each was once looked for in a set made anew of all."""
    for number in range(256):
        (tmp_path / f"{number:02x}").mkdir()
    sizes = {f"{number % 256:02x}{number:030x}": 1 for number in range(10_000)}
    for md5 in sizes:
        (tmp_path / md5[:2] / md5[2:]).write_bytes(b"x")
    began = time.process_time()
    for md5 in sizes:
        integrity._digest(f"{tmp_path}/{md5[:2]}/{md5[2:]}")
    hashing_s = time.process_time() - began

    began = time.process_time()
    hashing = integrity._hash(tmp_path, sizes)
    try:
        while True:
            next(hashing)
    except StopIteration as end:
        damaged = end.value

    assert damaged == list(sizes)
    assert time.process_time() - began < 10 * hashing_s
