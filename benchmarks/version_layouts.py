"""Packs and chunks against the files themselves, both moved by a stock DVC.

Packs: many small files, `dvc push` and `dvc pull` by the same stock DVC, once of the files, once
of the packs that `mlstack version snapshot` made, unpacked by stock tar. Chunks: large files
of which a part changes; the bytes that a second version adds to the cache. Every round begins with
empty folders; figures are medians, CPU is user + system time of the process tree.

    python benchmarks/version_layouts.py [--files N] [--rounds 3] [--large-mb 512] [--folder DIR]

Needs about 3 GB of disk in DIR (default: below the system's temporary folder), or five
times `--large-mb` times four, whichever is more.
"""

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

CONFIG = """version: 1
project: {{name: bench, task: image-classification}}
data: {{source: data/set}}
model: {{class: a.b:C}}
versioning: {{layout: {layout}}}
"""
UNPACK = 'mkdir set; for pack in set.packs/*.tar; do tar xf "$pack" -C set; done'
DVC = [sys.executable, "-m", "dvc"]
MLSTACK = [sys.executable, "-m", "mlstack"]


def run(home: Path, folder: Path, *commands: list[str]) -> tuple[float, float]:
    """Run commands in a folder; give CPU and wall seconds."""
    environment = os.environ | {
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(home / "site"),
        "GIT_AUTHOR_NAME": "bench",
        "GIT_AUTHOR_EMAIL": "bench@example.invalid",
        "GIT_COMMITTER_NAME": "bench",
        "GIT_COMMITTER_EMAIL": "bench@example.invalid",
    }
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for command in commands:
        subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def project(home: Path, layout: str) -> Path:
    """Make a repository with stock tools."""
    root = home / layout
    (root / "data").mkdir(parents=True)
    (root / "mlstack.yaml").write_text(CONFIG.format(layout=layout))
    run(home, root, ["git", "init", "-q"], [*DVC, "init", "-q"])
    run(home, root, [*DVC, "remote", "add", "-d", "there", str(home / f"{layout}-remote")])
    run(home, root, ["git", "add", "-A"], ["git", "commit", "-qm", "start"])
    return root


def fill_small(folder: Path, count: int) -> None:
    """Write files of 1.5 to 2.5 KB, 1,000 a folder."""
    rng = random.Random(0)
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        if number % 1000 == 0:
            place.mkdir(parents=True)
        (place / f"{number:06}.jpg").write_bytes(rng.randbytes(rng.randint(1500, 2500)))


def fill_large(folder: Path, megabytes: int) -> None:
    """Write four files."""
    folder.mkdir(parents=True)
    for number in range(4):
        with (folder / f"{number}.bin").open("wb") as stream:
            for _ in range(megabytes):
                stream.write(os.urandom(1 << 20))


def change_large(folder: Path) -> None:
    """Insert 10 MB into one file, and overwrite 10 MB of another."""
    content = (folder / "0.bin").read_bytes()
    middle = len(content) // 2
    (folder / "0.bin").write_bytes(content[:middle] + os.urandom(10 << 20) + content[middle:])
    with (folder / "1.bin").open("r+b") as stream:
        stream.seek(middle)
        stream.write(os.urandom(10 << 20))


def cache_bytes(root: Path) -> int:
    """Add up the bytes of all objects in the cache of a repository."""
    home = root / ".dvc" / "cache" / "files" / "md5"
    return sum(path.stat().st_size for path in home.rglob("*") if path.is_file())


def round_of_packs(home: Path, data: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Push and pull once with each layout; give CPU and wall seconds by step and layout."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for layout in ("files", "packs"):
        root = project(home, layout)
        shutil.copytree(data, root / "data" / "set")
        keep = [*MLSTACK, "version", "snapshot", "-m", "first"]
        clone = home / f"{layout}-clone"
        unpack = [] if layout == "files" else [["sh", "-ec", f"cd data; {UNPACK}"]]
        steps = {
            "snapshot by mlstack": run(home, root, keep),
            "push by stock DVC": run(home, root, [*DVC, "push", "-q"]),
        }
        run(home, home, ["git", "clone", "-q", str(root), str(clone)])
        pull = [*DVC, "pull", "-q"]
        steps["pull by stock DVC, and tar"] = run(home, clone, pull, *unpack)
        compare = ["diff", "-rq", str(data), str(clone / "data" / "set")]
        subprocess.run(compare, check=True)
        for name, figures in steps.items():
            found.setdefault(name, {})[layout] = figures
        for path in home.glob(f"{layout}*"):
            shutil.rmtree(path)
        shutil.rmtree(home / "site", ignore_errors=True)
    return found


def show_packs(home: Path, count: int, rounds: int) -> None:
    """Measure packs and print a table."""
    data = home / "small"
    fill_small(data, count)
    all_rounds = [round_of_packs(home, data) for _ in range(rounds)]
    print(f"{count} files of 2 KB, {rounds} rounds       CPU s, wall s       CPU s, wall s")
    print(f"{'':32}{'files':>14}{'packs':>20}{'CPU':>10}{'wall':>8}")
    for step in all_rounds[0]:
        cells = []
        for layout in ("files", "packs"):
            figures = [one[step][layout] for one in all_rounds]
            cells.append([statistics.median(values) for values in zip(*figures, strict=True)])
        (cpu, wall), (packed_cpu, packed_wall) = cells
        print(
            f"{step:32}{cpu:8.2f}{wall:8.2f}{packed_cpu:12.2f}{packed_wall:8.2f}"
            f"{cpu / packed_cpu:9.1f}x{wall / packed_wall:7.1f}x"
        )
    shutil.rmtree(data)


def show_chunks(home: Path, megabytes: int) -> None:
    """Measure what a change costs, and print it."""
    data = home / "large"
    fill_large(data, megabytes)
    print(f"\n4 files of {megabytes} MB, 20 MB of them changed")
    grown = {}
    for layout in ("files", "chunks"):
        root = project(home, layout)
        shutil.copytree(data, root / "data" / "set")
        keep = [*MLSTACK, "version", "snapshot", "-m"]
        if layout == "files":
            keep = [*DVC, "add", "-q", "data/set"]
        cpu, wall = run(home, root, [*keep, "first"] if layout == "chunks" else keep)
        before = cache_bytes(root)
        change_large(root / "data" / "set")
        again, again_wall = run(home, root, [*keep, "second"] if layout == "chunks" else keep)
        grown[layout] = cache_bytes(root) - before
        print(
            f"{'stock DVC' if layout == 'files' else 'chunks':10} first {cpu:6.2f} s CPU "
            f"{wall:6.2f} s wall; second {again:6.2f} s CPU {again_wall:6.2f} s wall; "
            f"stored for it {grown[layout] / 1e6:8.1f} MB"
        )
        shutil.rmtree(root)
    print(f"{grown['files'] / grown['chunks']:.1f}x fewer bytes stored")
    shutil.rmtree(data)


def main() -> None:
    """Measure and print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large-mb", type=int, default=512)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    print(f"mlstack {version('mlstack')}, DVC {version('dvc')}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        show_packs(Path(place), asked.files, asked.rounds)
        show_chunks(Path(place), asked.large_mb)


if __name__ == "__main__":
    main()
