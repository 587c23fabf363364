"""`mlstack version` against stock DVC on the same files: many small ones, and a few large ones.

Both keep the same bytes in the same places, so each row is the same work. The tools take turns;
every figure is the median of the rounds, CPU is user + system time of the process tree. Everything
that Python has compiled is there, as after any installation; one command of each tool goes first.
Before each step the memory that it may take is touched: none pays for what the machine gave back.

    python benchmarks/version.py [--files 100000] [--rounds 3] [--large-mb 512] [--folder DIR]
        [--tools dvc mlstack git git-lfs oxen] [--links copy hardlink,copy]

Needs about 4 GB of disk in DIR [a folder of its own below the system's temporary one].
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil
from version_peers import PEERS, CannotError, Git, versions

CONFIG = """version: 1
project: {{name: bench, task: image-classification}}
data: {{source: data/set}}
model: {{class: a.b:C}}
versioning: {{remote: {remote}}}
"""
PER_FOLDER = 1000
BACKED_BYTES = 3 << 30


@dataclass
class Figures:
    """What the rounds of one step took."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


class Tool:
    """One of the two that are compared, in a repository of its own."""

    def __init__(self, name: str, home: Path, links: str) -> None:
        self.name = name
        self.links = links
        self.root = home / name
        self.remote = home / f"{name}-remote"
        self.clone = home / f"{name}-clone"
        self.data = self.root / "data" / "set"
        self.places = (self.root, self.remote, self.clone, home / f"{name}-site")
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        self.environment = kept | {
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(home / f"{name}-site"),
            "GIT_AUTHOR_NAME": "bench",
            "GIT_AUTHOR_EMAIL": "bench@example.invalid",
            "GIT_COMMITTER_NAME": "bench",
            "GIT_COMMITTER_EMAIL": "bench@example.invalid",
        }

    def start(self) -> None:
        """Make an empty repository with a folder as its remote."""
        self.root.mkdir(parents=True)
        (self.root / "mlstack.yaml").write_text(CONFIG.format(remote=self.remote))
        (self.root / ".gitignore").write_text(".mlstack/\n")
        self.type("git", "init", "-q")
        self.type("dvc", "init", "-q")
        self.type("dvc", "config", "core.analytics", "false")
        self.type("dvc", "config", "cache.type", self.links)
        self.type("dvc", "remote", "add", "-d", "store", str(self.remote))
        self.type("git", "add", "-A")
        self.type("git", "commit", "-qm", "start")
        self.remote.mkdir()

    def type(self, *words: str, cwd: Path | None = None) -> None:
        """Run one command; whatever it says is only shown when it fails."""
        module = ["-m", words[0]] if words[0] in ("dvc", "mlstack") else None
        command = [sys.executable, *module, *words[1:]] if module else list(words)
        done = subprocess.run(
            command,
            cwd=cwd or self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{self.name}: {' '.join(words)}\n{done.stdout}{done.stderr}")

    def snapshot(self) -> None:
        """Put the folder into the cache and commit its pointer."""
        if self.name == "mlstack":
            self.type("mlstack", "version", "snapshot", "-m", "data", "--quiet")
        else:
            self.type("dvc", "add", "-q", "data/set")
            self.type("git", "add", "data/set.dvc", "data/.gitignore")
            self.type("git", "commit", "-qm", "data")

    def status(self) -> None:
        """Ask whether anything has changed."""
        words = ("mlstack", "version", "diff", "--json")
        self.type(*(words if self.name == "mlstack" else ("dvc", "status", "-q")))

    def checkout(self) -> None:
        """Go back to the version before."""
        if self.name == "mlstack":
            self.type("mlstack", "version", "checkout", "HEAD~1", "--quiet")
        else:
            self.type("git", "checkout", "-q", "HEAD~1", "--", "data/set.dvc")
            self.type("dvc", "checkout", "-q")

    def forward(self) -> None:
        """Come back to the newest version; not measured."""
        if self.name == "mlstack":
            self.type("mlstack", "version", "checkout", "HEAD")
        else:
            self.type("git", "checkout", "-q", "HEAD", "--", "data/set.dvc")
            self.type("dvc", "checkout", "-q")

    def push(self) -> None:
        """Copy to the remote what it lacks."""
        self.type(*(("mlstack", "version", "push") if self.name == "mlstack" else ("dvc", "push")))

    def pull(self) -> None:
        """Clone and fetch."""
        self.type("git", "clone", "-q", str(self.root), str(self.clone))
        words = ("mlstack", "version", "pull") if self.name == "mlstack" else ("dvc", "pull", "-q")
        self.type(*words, cwd=self.clone)


def small_files(folder: Path, count: int) -> None:
    """Write files of 1.5 to 2.6 KB, half of them noise, half text."""
    chance = random.Random(1)
    for number in range(count):
        place = folder / f"d{number // PER_FOLDER:03d}"
        if number % PER_FOLDER == 0:
            place.mkdir(parents=True)
        size = chance.randint(1536, 2600)
        if number % 2:
            (place / f"{number % PER_FOLDER:04d}.jpg").write_bytes(chance.randbytes(size))
        else:
            text = (f"{number} " * 600)[:size]
            (place / f"{number % PER_FOLDER:04d}.txt").write_text(text)


def large_files(folder: Path, size_mb: int) -> None:
    """Write four files of noise."""
    folder.mkdir(parents=True)
    for number in range(4):
        with (folder / f"{number}.bin").open("wb") as stream:
            for _ in range(size_mb):
                stream.write(os.urandom(1 << 20))


def change(folder: Path) -> None:
    """Replace one file in a hundred, as an editor that writes beside and renames does."""
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        if number % 100 == 0:
            beside = path.with_suffix(".new")
            beside.write_bytes(os.urandom(2000))
            beside.replace(path)


def back_memory() -> None:
    """Touch the memory that a step may take, for each tool alike.

    What a virtual machine frees it may give back to its host, and then a page costs 5 us more of
    kernel time at its first use (1.3 us at any other). 300,000 of them are half of all that a fast
    tool takes, or nothing, by what ran before.
    """
    held = bytearray(b"\1") * min(BACKED_BYTES, psutil.virtual_memory().available // 2)
    del held


def measure(figures: Figures, step: Callable[[], None]) -> None:
    """Run a step once and note its CPU and wall seconds."""
    os.sync()
    back_memory()
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    step()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures.wall.append(time.monotonic() - began)
    figures.cpu.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


@dataclass
class Case:
    """One table: which files, how the tools share bytes with their caches, and what was found."""

    title: str
    source: Path
    links: str
    steps: list[str]
    found: dict[str, dict[str, Figures]] = field(default_factory=dict)

    def run(self, names: list[str], home: Path) -> None:
        """Have the tools take turns, once."""
        tools = [
            PEERS[name](name, home) if name in PEERS else Tool(name, home, self.links)
            for name in names
        ]
        for tool in tools:
            tool.start()
            tool.data.parent.mkdir()
            subprocess.run(["cp", "-a", str(self.source), str(tool.data)], check=True)
        for step in self.steps:
            for tool in tools:
                row = self.found.setdefault(step, {}).setdefault(tool.name, Figures())
                take(tool, step, row)
        for tool in tools:
            compare(tool)
        for tool in tools:
            for place in tool.places:
                shutil.rmtree(place, ignore_errors=True)


def take(tool: Tool | Git, step: str, row: Figures) -> None:
    """Have a tool do a step; a peer that cannot leaves a gap, and says why."""
    if step == "1 % changed, snapshot":
        change(tool.data)
    try:
        measure(row, getattr(tool, STEPS[step]))
        if step == "checkout of the older one":
            tool.forward()
        elif step == "first snapshot" and hasattr(tool, "after_snapshot"):
            tool.after_snapshot()
    except CannotError as error:
        print(f"{tool.name}: {step}: {error}", file=sys.stderr)


def compare(tool: Tool | Git) -> None:
    """Have stock DVC say that everything is as it should be."""
    if tool.name in PEERS:
        return
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=tool.root, env=tool.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode or done.stdout.strip() != "{}":
        raise SystemExit(f"stock DVC disagrees with {tool.name}: {done.stdout}{done.stderr}")


STEPS = {
    "first snapshot": "snapshot",
    "status, nothing changed": "status",
    "1 % changed, snapshot": "snapshot",
    "checkout of the older one": "checkout",
    "push": "push",
    "push, nothing new": "push",
    "clone + pull": "pull",
}


def table(title: str, found: dict[str, dict[str, Figures]]) -> None:
    """Print medians, and how many times those of mlstack each of the others takes."""
    print(f"\n{title}")
    for kind in ("cpu", "wall"):
        names = list(next(iter(found.values())))
        print(f"{kind + ' s':28}" + "".join(f"{name:>10}{'':8}" for name in names))
        for step, row in found.items():
            medians = {name: _median(getattr(row[name], kind)) for name in names}
            own = medians.get("mlstack")
            print(f"{step:28}" + "".join(_cell(s, own) for s in medians.values()), flush=True)


def _median(seconds: list[float]) -> float | None:
    return statistics.median(seconds) if seconds else None


def _cell(seconds: float | None, own: float | None) -> str:
    if seconds is None:
        return f"{'-':>10}{'':8}"
    ratio = f"{seconds / own:6.1f}x" if own and seconds != own else ""
    return f"{seconds:10.2f}{ratio:8}"


FLOOR = """
import hashlib, pathlib, sys
for path in pathlib.Path(sys.argv[1]).iterdir():
    with path.open("rb") as stream:
        hashlib.file_digest(stream, "md5")
"""


def floor(folder: Path) -> None:
    """Print what reading and hashing the files takes, and nothing else."""
    row = Figures()
    command = [sys.executable, "-c", FLOOR, str(folder)]
    measure(row, lambda: subprocess.run(command, check=True))
    print(
        f"their MD5 alone, one thread: {row.cpu[0]:.2f} s of CPU, {row.wall[0]:.2f} s", flush=True
    )


def main() -> None:
    """Measure what was asked for and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large-mb", type=int, default=512)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--links", nargs="*", default=["copy", "hardlink,copy"])
    parser.add_argument("--tools", nargs="*", default=["dvc", "mlstack"])
    given = parser.parse_args()
    print(f"DVC {version('dvc')}, Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    print(versions(given.tools))
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        home = Path(folder)
        for name in {"dvc", "mlstack"} & set(given.tools):
            Tool(name, home, "copy").type(name, "--version", cwd=home)
        cases = list(cases_of(given, home))
        for number in range(given.rounds):
            for case in cases:
                case.run(given.tools, home / "work")
                table(f"{case.title}; rounds: {number + 1}", case.found)
                if case.source.name == "large":
                    floor(case.source)


def cases_of(given: argparse.Namespace, home: Path) -> Iterator[Case]:
    """Write the files, and say what is measured on them."""
    if given.files:
        small_files(home / "small", given.files)
    if given.large_mb:
        large_files(home / "large", given.large_mb)
    for links in given.links:
        if given.files:
            title = f"{given.files:,} files of 2 KB, cache.type = {links}"
            yield Case(title, home / "small", links, list(STEPS))
        if given.large_mb:
            title = f"4 files of {given.large_mb} MB, cache.type = {links}"
            steps = ["first snapshot", "status, nothing changed", "push", "clone + pull"]
            yield Case(title, home / "large", links, steps)


if __name__ == "__main__":
    main()
