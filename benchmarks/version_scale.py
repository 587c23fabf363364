"""What the slow commands of `mlstack version` cost on very many small files.

`benchmarks/version.py` compares the daily commands with DVC; here are those that look at all there
is: check, verify, gc, a merge of two branches. CPU is user + system time of the process tree, and
memory its largest process.

    python benchmarks/version_scale.py [--files 100000] [--folder DIR]

Needs about 1.5 GB of disk in DIR [a folder of its own below the system's temporary one].
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, SIDE = 100, 24
MANY = 50_000  # files that only one version has
CONFIG = f"""version: 1
project: {{name: bench, task: image-classification}}
data:
  source: data/set
  classes: [{", ".join(f"c{number:02d}" for number in range(CLASSES))}]
model: {{class: a.b:C}}
"""
OWN = [sys.executable, "-m", "mlstack", "version"]
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "bench"), ("EMAIL", "bench@example.invalid"))
}


def pictures(folder: Path, numbers: range, seed: int) -> None:
    """Write PNGs of noise, about 1.8 KB each, in a folder for each class."""
    chance = np.random.default_rng(seed)
    for number in numbers:
        place = folder / f"c{number % CLASSES:02d}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = chance.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        beside = place / f".{number}.png"
        Image.fromarray(pixels).save(beside, compress_level=1)
        beside.replace(place / f"{number:06d}.png")


def quiet(root: Path, *words: str) -> None:
    """Run a command that is not measured."""
    environment = os.environ | IDENTITY
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}")


def measure(root: Path, what: str, *words: str) -> None:
    """Run a command once and print what it took."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            words, cwd=root, env=os.environ | IDENTITY, stdout=said, stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(words)}\n{said.read().decode()}")
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{what:44}{cpu:9.2f}{wall:9.2f}{usage.ru_maxrss / 1024:9.0f}", flush=True)


def main() -> None:
    """Measure each command once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    print(f"{given.files:,} pictures; DVC {version('dvc')}, {os.cpu_count()} cores")
    print(f"{'':44}{'CPU s':>9}{'wall s':>9}{'MB':>9}")
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        root = Path(place) / "project"
        first(root, given.files)
        merged(root, given.files)
        collected(root)


def first(root: Path, count: int) -> None:
    """Measure what looks at one version."""
    pictures(root / "data" / "set", range(count), 1)
    (root / "mlstack.yaml").write_text(CONFIG)
    (root / ".gitignore").write_text(".mlstack/\n/data/set/\n")
    quiet(root, "git", "init", "-q", "-b", "main")
    quiet(root, "git", "add", "-A")
    quiet(root, "git", "commit", "-qm", "start")
    measure(root, "snapshot", *OWN, "snapshot", "-m", "first")
    measure(root, "check", *OWN, "check")
    measure(root, "verify", *OWN, "verify")


def merged(root: Path, count: int) -> None:
    """Measure a merge of two branches that changed another 1 % each."""
    data = root / "data" / "set"
    quiet(root, "git", "checkout", "-q", "-b", "side")
    pictures(data, range(0, count, 100), 2)
    quiet(root, *OWN, "snapshot", "-m", "theirs")
    quiet(root, "git", "checkout", "-q", "main")
    quiet(root, *OWN, "checkout", "HEAD")
    pictures(data, range(50, count, 100), 3)
    quiet(root, *OWN, "snapshot", "-m", "ours")
    measure(root, "git merge, 1 % changed on either side", "git", "merge", "--no-edit", "side")
    measure(root, "checkout of the merge", *OWN, "checkout", "HEAD")
    measure(root, "diff of the merge and its parent", *OWN, "diff", "HEAD~1", "HEAD")
    measure(root, "log", *OWN, "log")
    measure(root, "verify, 4 versions", *OWN, "verify")
    measure(root, "gc, nothing to free", *OWN, "gc", "--yes")


def collected(root: Path) -> None:
    """Measure what frees a version of which nearly every file is its own."""
    pictures(root / "data" / "set", range(MANY), 4)
    quiet(root, *OWN, "snapshot", "-m", "all others")
    quiet(root, "git", "reset", "-q", "--hard", "HEAD~1")
    quiet(root, "git", "reflog", "expire", "--expire=now", "--all")
    measure(root, f"gc, {MANY:,} files to the trash", *OWN, "gc", "--yes")
    measure(root, "gc --restore", *OWN, "gc", "--restore")
    measure(root, "gc again", *OWN, "gc", "--yes")
    measure(root, "gc --empty", *OWN, "gc", "--empty", "--grace", "0")


if __name__ == "__main__":
    main()
