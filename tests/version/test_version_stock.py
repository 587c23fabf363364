"""The engine against stock DVC: what one writes, the other finds byte for byte as its own."""

import random
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from test_version_hash import NAMES
from test_version_hash import grow as grow_randomly

CONFIG = """version: 1
project: {name: twin, task: image-classification}
data: {source: data/set}
model: {class: twin.model:Net}
"""
LINKS = ["copy", "hardlink,copy", "reflink,copy"]


class Twin:
    """A repository that only one of the two works in."""

    def __init__(self, root: Path, tool: str, links: str) -> None:
        self.root, self.tool = root, tool
        self.data = root / "data" / "set"
        self.remote = root.with_name(f"{root.name}-remote")
        self.data.parent.mkdir(parents=True)
        self.remote.mkdir()
        (root / "mlstack.yaml").write_text(CONFIG)
        (root / ".gitignore").write_text(".mlstack/\n")
        for words in (
            ["git", "init", "-q"],
            ["git", "config", "user.name", "Twin"],
            ["git", "config", "user.email", "twin@example.invalid"],
            ["dvc", "init", "-q"],
            ["dvc", "config", "cache.type", links],
            ["dvc", "remote", "add", "-d", "store", str(self.remote)],
            ["git", "add", "-A"],
            ["git", "commit", "-qm", "start"],
        ):
            self.type(*words)

    def type(self, *words: str) -> str:
        module = ["-m", words[0]] if words[0] in ("dvc", "mlstack") else None
        command = [sys.executable, *module, *words[1:]] if module else list(words)
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def snapshot(self) -> None:
        if self.tool == "mlstack":
            self.type("mlstack", "version", "snapshot", "-m", "data")
        else:
            self.type("dvc", "add", "-q", "data/set")
            self.type("git", "add", "-A")
            self.type("git", "commit", "-qm", "data")

    def push(self) -> None:
        self.type(*(["mlstack", "version"] if self.tool == "mlstack" else ["dvc"]), "push")

    def back(self) -> None:
        if self.tool == "mlstack":
            self.type("mlstack", "version", "checkout", "HEAD~1")
        else:
            self.type("git", "checkout", "-q", "HEAD~1", "--", "data/set.dvc")
            self.type("dvc", "checkout", "-q")


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Read every file below a folder, with its permissions."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(params=LINKS)
def twins(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Twin, Twin]:
    """Two repositories with the same files."""
    made = Twin(tmp_path / "ours", "mlstack", request.param)
    stock = Twin(tmp_path / "stock", "dvc", request.param)
    grow_randomly(made.data, random.Random(3))
    (made.data / "empty").touch()
    (made.data / "line\nbreak").write_bytes(b"odd name")
    (made.data / "large.bin").write_bytes(random.Random(4).randbytes(3 << 20))
    (made.data / "twice.bin").write_bytes(b"the same")
    (made.data / "again.bin").write_bytes(b"the same")
    shutil.copytree(made.data, stock.data)
    return made, stock


@pytest.mark.slow
def test_both_leave_the_same_bytes_in_pointer_cache_remote_and_folder(
    twins: tuple[Twin, Twin],
) -> None:
    for twin in twins:
        twin.snapshot()
        (twin.data / "new.bin").write_bytes(b"new")
        (twin.data / "empty").unlink()
        large = twin.data / "large.bin"
        large.unlink()
        large.write_bytes(random.Random(5).randbytes(2 << 20))
        twin.snapshot()
        twin.push()
    ours, stock = twins

    for part in ("data/set.dvc", "data/.gitignore"):
        assert (ours.root / part).read_bytes() == (stock.root / part).read_bytes()
    assert tree(ours.root / ".dvc" / "cache") == tree(stock.root / ".dvc" / "cache")
    assert tree(ours.remote) == tree(stock.remote)
    assert ours.type("dvc", "status", "--json").strip() == "{}"
    assert ours.type("dvc", "status", "--cloud", "--json").strip() == "{}"
    for twin in twins:
        twin.back()
    contents = [{path: one[0] for path, one in tree(twin.data).items()} for twin in twins]
    assert contents[0] == contents[1]
    assert ours.type("dvc", "status", "--json").strip() == "{}"


@pytest.mark.slow
@pytest.mark.parametrize("links", LINKS)
def test_each_reads_what_the_other_pushed(tmp_path: Path, links: str) -> None:
    ours, stock = Twin(tmp_path / "o", "mlstack", links), Twin(tmp_path / "s", "dvc", links)
    for twin in (ours, stock):
        grow_randomly(twin.data, random.Random(6))
        twin.snapshot()
        twin.push()

        clone = tmp_path / f"clone-{twin.root.name}"
        subprocess.run(["git", "clone", "-q", str(twin.root), str(clone)], check=True)
        other = ["dvc", "pull"] if twin is ours else ["mlstack", "version", "pull"]
        done = subprocess.run(
            [sys.executable, "-m", *other], cwd=clone, capture_output=True, text=True, check=False
        )

        assert done.returncode == 0, done.stderr
        pulled = {path: one[0] for path, one in tree(clone / "data" / "set").items()}
        assert pulled == {path: one[0] for path, one in tree(twin.data).items()}


@pytest.mark.slow
def test_what_only_dvc_understands_is_left_to_dvc(tmp_path: Path) -> None:
    ours = Twin(tmp_path / "ours", "mlstack", "copy")
    ours.data.mkdir()
    (ours.data / "one").write_text("1")
    ours.snapshot()
    pointer = ours.data.with_name("set.dvc")
    pointer.write_text(pointer.read_text() + "desc: what people wrote here stays\n")
    (ours.data / "two").write_text("2")

    ours.snapshot()

    assert "what people wrote here stays" in pointer.read_text()
    assert ours.type("dvc", "status", "--json").strip() == "{}"
    (tmp_path / "elsewhere").write_text("linked")
    (ours.data / "link").symlink_to(tmp_path / "elsewhere")
    ours.snapshot()
    assert ours.type("dvc", "status", "--json").strip() == "{}"
    ours.type("dvc", "config", "cache.type", "symlink")
    (ours.data / "three").write_text("3")
    ours.snapshot()
    assert (ours.data / "three").is_symlink()


@pytest.mark.slow
def test_a_hidden_file_is_neither_kept_nor_taken_away(tmp_path: Path) -> None:
    ours = Twin(tmp_path / "ours", "mlstack", "copy")
    ours.data.mkdir()
    for name in ("one.bin", "two.log", NAMES[4]):
        (ours.data / name).write_text(name)
    (ours.root / ".dvcignore").write_text("*.log\n")

    ours.snapshot()
    (ours.data / "one.bin").write_text("changed")
    ours.snapshot()
    ours.back()

    assert ours.type("dvc", "status", "--json").strip() == "{}"
    assert sorted(path.name for path in ours.data.iterdir()) == sorted(
        ["one.bin", "two.log", NAMES[4]]
    )
    assert (ours.data / "one.bin").read_text() == "one.bin"
