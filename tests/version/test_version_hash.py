"""`records.data_folder.hash_folder` against stock DVC's own hash of the same folder."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_objects.fs.local import LocalFileSystem

from mlstack.errors import DataError
from mlstack.records import data_folder

NAMES = [
    "a",
    "b b",
    "é",
    "e\u0301",
    "日本",
    ".hidden",
    "z.png",
    "A",
    "a.b",
    "tab\there",
    '"q"',
    "é.d",
]


def dvc_hash(folder: Path, cache: Path) -> str:
    fs = LocalFileSystem()
    _, _, tree = build(HashFileDB(fs, os.fspath(cache)), os.fspath(folder), fs, "md5", dry_run=True)
    return tree.hash_info.value


def grow(folder: Path, chance: random.Random, depth: int = 0) -> None:
    folder.mkdir()
    for name in chance.sample(NAMES, chance.randint(1, 6)):
        if depth < 3 and chance.random() < 0.4:
            grow(folder / f"{name}_d", chance, depth + 1)
        else:
            (folder / name).write_bytes(chance.randbytes(chance.choice([0, 1, 100, 5000])))


@pytest.mark.parametrize("seed", range(25))
def test_a_folder_has_the_hash_that_dvc_gives_it(tmp_path: Path, seed: int) -> None:
    grow(tmp_path / "data", random.Random(seed))

    state = data_folder.hash_folder(tmp_path / "data")

    assert state.md5 == dvc_hash(tmp_path / "data", tmp_path / "cache")


def test_dot_files_empty_files_and_links_to_files_count_as_in_dvc(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / ".git").mkdir(parents=True)
    (data / ".hidden").mkdir()
    (data / ".hidden" / "empty").touch()
    (data / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text("content")

    state = data_folder.hash_folder(data)

    assert sorted(state.entries) == [".hidden/empty", "link"]
    assert state.md5 == dvc_hash(data, tmp_path / "cache")


def test_an_empty_folder_has_the_hash_that_dvc_gives_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()

    assert data_folder.hash_folder(tmp_path / "data").md5 == dvc_hash(
        tmp_path / "data", tmp_path / "cache"
    )


@pytest.mark.parametrize("what", ["folder link", "dead link", "ignore file", "pipe", "repository"])
def test_what_dvc_leaves_out_or_refuses_is_named(tmp_path: Path, what: str) -> None:
    data, odd = tmp_path / "data", tmp_path / "data" / "odd"
    data.mkdir()
    match what:
        case "folder link":
            odd.symlink_to(tmp_path)
        case "dead link":
            odd.symlink_to(tmp_path / "nothing")
        case "ignore file":
            odd = data / ".dvcignore"
            odd.touch()
        case "pipe":
            os.mkfifo(odd)
        case "repository":
            odd.mkdir()
            (odd / ".dvc").mkdir()

    with pytest.raises(DataError, match=odd.name):
        data_folder.hash_folder(data)


PATTERNS = [
    "*.png", "a", "a/", "!z.png", "/data", "/data/é", "data/**/A", "**/x", "b*", "*_d/",
    "!a_d/", "\\a", ".hidden", "data/digits/a_d/*", "!data/digits/a_d/a", "[az]*", "日本", "?",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_the_patterns_of_dvcignore_hide_what_they_hide_from_dvc(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    root, data = tmp_path / "project", tmp_path / "project" / "data" / "digits"
    data.parent.mkdir(parents=True)
    grow(data, chance)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=root, check=True)
    for place in (root, root / "data"):
        lines = chance.sample(PATTERNS, chance.randint(0, 5))
        (place / ".dvcignore").write_text("# comment\n\n" + "\n".join(lines) + "\n")

    seen = sorted(data_folder.list_files(data)) if not hidden(root, data) else None

    with Repo(str(root)) as repo:
        walked = repo.dvcignore.find(LocalFileSystem(), str(data))
        expected = sorted(Path(path).relative_to(data).as_posix() for path in walked)
    if seen is None:
        with pytest.raises(DataError, match="hides all of it"):
            data_folder.list_files(data)
    else:
        assert seen == expected


def hidden(root: Path, data: Path) -> bool:
    """Ask DVC whether it would see the folder at all."""
    with Repo(str(root)) as repo:
        return bool(repo.dvcignore.is_ignored_dir(str(data)))
