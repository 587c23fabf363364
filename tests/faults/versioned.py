"""A project with two versions of a few files, and what must hold whatever happens to it."""

import hashlib
import json
import random
import stat
import subprocess
import sys
import time

from faulty import mlstack
from projects import commit_all

FILES = 600
CONFIG = """version: 1
project: {name: kills, task: image-classification}
data: {source: data/set}
model: {class: kills.model:Net}
versioning: {remote: remote}
"""


def make_versions(root, files=FILES):
    """Make a project with two versions of its files, and a folder for its remote."""
    for number in range(files):
        path = root / "data" / "set" / f"part {number % 7}" / f"日 {number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(number).randbytes(1500))
    (root / "mlstack.yaml").write_text(CONFIG)
    (root / ".gitignore").write_text(".mlstack/\n/data/set/\n/remote/\n/clone/\n")
    (root / "remote").mkdir()
    commit_all(root)
    assert mlstack(root, "version", "snapshot", "-m", "one").returncode == 0
    change(root, 1)
    assert mlstack(root, "version", "snapshot", "-m", "two").returncode == 0
    return root


def change(root, seed):
    """Replace, add and remove some files."""
    chance = random.Random(seed)
    there = sorted((root / "data" / "set").rglob("*.bin"))
    for path in chance.sample(there, len(there) // 10):
        beside = path.with_suffix(".new")
        beside.write_bytes(chance.randbytes(1500))
        beside.replace(path)
    for path in chance.sample(there, len(there) // 30):
        path.unlink()
    for number in range(20):
        (root / "data" / "set" / f"new {seed} {number}.bin").write_bytes(chance.randbytes(99))


def typed(root, *words):
    """Type a command again that was killed; a git that it left may still be at work."""
    for _ in range(5):
        done = mlstack(root, *words)
        if done.returncode == 0:
            return done
        time.sleep(0.5)
    raise AssertionError(done.stderr)


def content(root):
    """Read every file of the data."""
    data = root / "data" / "set"
    return {p.relative_to(data): p.read_bytes() for p in data.rglob("*") if p.is_file()}


def assert_whole(store):
    """Every object that DVC would trust has the content that its name says; lists are complete."""
    lists = []
    for path in (store / "files" / "md5").rglob("*"):
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) == 0o444:
            digest = hashlib.md5(path.read_bytes()).hexdigest()
            assert path.parent.name + path.name.removesuffix(".dir") == digest
            lists += [path] if path.name.endswith(".dir") else []
    for path in lists:
        for entry in json.loads(path.read_bytes()):
            md5 = entry["md5"]
            assert (store / "files" / "md5" / md5[:2] / md5[2:]).is_file(), entry


def stock(root, *words):
    """Ask stock DVC."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def names(folder):
    return {path.parent.name + path.name for path in folder.rglob("*") if path.is_file()}
