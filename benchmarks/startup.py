"""What a command costs before it does anything: CPU of `--help` and of a config error.

Beside them, in the same rounds: a bare Python, a bare two-command Typer app, and the help of
LightningCLI (the peer that also turns one file into a training). Prints medians of CPU
milliseconds and ratios.

    python benchmarks/startup.py [ROUNDS]
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

COMMANDS = [
    "", "init", "label", "version", "train", "tune", "export", "serve", "monitor",
    "run", "doctor", "config",
]  # fmt: skip
TYPER = """
import typer
app = typer.Typer(rich_markup_mode=None, add_completion=False)
@app.command()
def one(number: int = 1) -> None: ...
@app.command()
def two() -> None: ...
app(["--help"])
"""
LIGHTNING = """
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.demos.boring_classes import BoringModel
LightningCLI(BoringModel, args=["--help"])
"""
BAD = """version: 1
project: {name: bad, task: image-classification}
data: {source: data/digits}
model: {class: a.b:C}
train: {epoch: 3, batch_size: many}
"""


def cpu_ms(words: list[str], cwd: Path) -> float:
    """Run once and give user + system time in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, cwd=cwd, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def main() -> None:
    """Measure in alternating rounds and print a table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    python = sys.executable
    cases = {"bare Python": [python, "-c", "pass"], "bare Typer app --help": [python, "-c", TYPER]}
    for name in COMMANDS:
        label = " ".join(["mlstack", *name.split(), "--help"])
        cases[label] = [python, "-m", "mlstack", *name.split(), "--help"]
    cases["mlstack train, wrong config"] = [python, "-m", "mlstack", "train"]
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        (where / "mlstack.yaml").write_text(BAD)
        for _ in range(rounds):
            for name, words in cases.items():
                seconds[name].append(cpu_ms(words, where))
        peer = statistics.median(cpu_ms([python, "-c", LIGHTNING], where) for _ in range(3))
    base = statistics.median(seconds["bare Typer app --help"])
    print(f"{rounds} rounds, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    print(f"{'':34}{'CPU ms':>8}{'x Typer':>9}")
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(f"{name:34}{middle:8.0f}{middle / base:9.2f}")
    print(f"{'LightningCLI --help (peer)':34}{peer:8.0f}{peer / base:9.2f}")


if __name__ == "__main__":
    main()
