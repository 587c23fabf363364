"""What a push and a pull of 1,000 small files and one of 30 MB cost over SSH: DVC against mlstack.

Both speak to the same server (a real sshd on loopback), in turns, in one run. CPU seconds are those
of the client and its children, `ssh` among them; the server's are not counted.
"""

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

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from ssh_server import Ssh, serving

SMALL, SMALL_BYTES, LARGE_BYTES, ROUNDS = 1000, 2048, 30_000_000, 3
CONFIG = """version: 1
project: {name: bench, task: image-classification}
data: {source: data/bench}
model: {class: "bench.model:Net"}
"""
DVC = [sys.executable, "-m", "dvc"]
OWN = [sys.executable, "-m", "mlstack", "version"]


def make_project(folder: Path) -> Path:
    data = folder / "data" / "bench"
    data.mkdir(parents=True)
    random.seed(17)
    for number in range(SMALL):
        (data / f"{number:05d}.bin").write_bytes(random.randbytes(SMALL_BYTES))
    (data / "large.bin").write_bytes(random.randbytes(LARGE_BYTES))
    (folder / "mlstack.yaml").write_text(CONFIG)
    quiet = {"cwd": folder, "check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(["git", "init", "-q"], **quiet)
    subprocess.run(["git", "config", "user.name", "bench"], **quiet)
    subprocess.run(["git", "config", "user.email", "bench@example.invalid"], **quiet)
    subprocess.run([*OWN, "snapshot", "-m", "data"], **quiet, stderr=subprocess.DEVNULL)
    return folder


class Client:
    """One of the two, with a project, a folder on the server and figures of its own."""

    def __init__(self, name: str, project: Path, server: Ssh) -> None:
        self.name, self.project, self.server = name, project, server
        self.figures: dict[str, list[tuple[float, float]]] = {}

    def round(self, number: int) -> None:
        url = self.server.url(self.project.parent / f"store-{self.name}-{number}")
        self.run([*DVC, "remote", "add", "-q", "-f", "-d", "--local", "far", url])
        self.run([*DVC, "remote", "modify", "--local", "far", "keyfile", str(self.server.key)])
        push, pull = (
            [*DVC, word, "-q"] if self.name == "dvc" else [*OWN, word] for word in ("push", "pull")
        )
        self.measure("push", push)
        self.measure("push, nothing new", push)
        shutil.rmtree(self.project / ".dvc" / "cache")
        shutil.rmtree(self.project / "data" / "bench")
        shutil.rmtree(self.project / ".dvc" / "tmp", ignore_errors=True)
        self.measure("pull", pull)
        self.measure("pull, nothing new", pull)

    def measure(self, what: str, command: list[str]) -> None:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        self.run(command)
        wall = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.figures.setdefault(what, []).append((cpu, wall))

    def run(self, command: list[str]) -> None:
        site = {"DVC_SITE_CACHE_DIR": str(self.project.parent / f"site-{self.name}")}
        done = subprocess.run(
            command,
            cwd=self.project,
            env=self.server.environment | site,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "sshd") as server:
        names = ("dvc", "own")
        clients = [Client(name, make_project(Path(folder) / name), server) for name in names]
        for number in range(ROUNDS):
            for client in clients if number % 2 else reversed(clients):
                client.round(number)
        print(f"{SMALL} files of {SMALL_BYTES} bytes and one of {LARGE_BYTES:,}, ", end="")
        print(f"medians of {ROUNDS} alternating rounds, {os.cpu_count()} cores, ", end="")
        print(f"DVC {version('dvc')}, dvc-ssh {version('dvc-ssh')}")
        print(
            f"{'':20}{'dvc cpu s':>10}{'own cpu s':>10}{'ratio':>7}"
            f"{'dvc wall':>10}{'own wall':>10}{'ratio':>7}"
        )
        dvc, own = clients
        for what in dvc.figures:
            (a, b), (c, d) = (
                [statistics.median(one) for one in zip(*client.figures[what], strict=True)]
                for client in (dvc, own)
            )
            print(f"{what:20}{a:10.2f}{c:10.2f}{a / c:7.1f}{b:10.2f}{d:10.2f}{b / d:7.1f}")


if __name__ == "__main__":
    main()
