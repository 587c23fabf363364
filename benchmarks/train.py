"""What training by mlstack costs beside a raw loop, Lightning alone, HF's Trainer and Ludwig.

    python benchmarks/train.py [--rounds N] [--hf PYTHON] [--ludwig PYTHON] [--only CASE,...]

Every side trains the same network on the same random examples (`train_project/`) in turns; medians
of CPU seconds, one thread. PYTHON is that of an environment with transformers and accelerate
(`python -m venv hf; hf/bin/pip install torch==2.13.0 transformers accelerate`), or of one that
`benchmarks/train_ludwig.py` made; without it that row is left out. Cases: mlp, resnet, resnet18,
write, ranks, deaths, hang, start. mlstack runs as it comes: events, heartbeats, checkpoints and
validation on.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

PROJECT = Path(__file__).parent / "train_project"
SETTINGS = """version: 1
project: {{name: bench, task: image-classification, seed: 1}}
versioning: {{backend: none}}
data: {{source: data/toy, module: "modules:Data", args: {{name: {name}}}}}
model: {{class: "modules:{model}", args: {{name: {name}}}}}
train: {{epochs: {epochs}, batch_size: {batch}, gpus: 0, trainer_args: {{{more}}}}}
"""
WRITE = """
import time, types
from pathlib import Path
import torch
from mlstack.train.worker.callbacks import Progress
from mlstack.train.worker.heartbeat import Heartbeat
from mlstack.train.worker.ranks import Rank
spec = types.SimpleNamespace(id="bench")
job = types.SimpleNamespace(folder=Path.cwd(), spec=spec, rank=Rank())
trainer = types.SimpleNamespace(num_training_batches=10**9, global_step=1, current_epoch=0)
progress, heart = Progress(job), Heartbeat(job)
outputs = {"loss": torch.tensor(0.5)}

def cost(call, times):
    began = time.process_time()
    for number in range(times):
        call(number)
    return (time.process_time() - began) / times * 1e6

def step(number):
    heart.on_train_batch_start()
    heart.on_before_backward()
    heart.on_after_backward()
    heart.on_train_batch_end()
    progress.on_train_batch_end(trainer, None, outputs, None, number)

def written(number):
    progress._last = 0.0
    progress.on_train_batch_end(trainer, None, outputs, None, number)

print(cost(step, 200_000), cost(written, 2_000))
"""


class Bench:
    """A folder to work in, and how often."""

    def __init__(self, folder: Path, rounds: int, peers: dict[str, list[str]]) -> None:
        self.folder, self.rounds, self.peers = folder, rounds, peers
        self.marks = folder / "marks.jsonl"
        self.environment = os.environ | {
            "BENCH_MARKS": str(self.marks),
            "BENCH_PID": str(os.getpid()),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), str(PROJECT)]),
            "PYTHONWARNINGS": "ignore",
        }

    def project(
        self, name: str, *, model: str, batch: int, epochs: int = 2, more: str = ""
    ) -> Path:
        """Lay out a project around a network; its data module makes what is trained on."""
        folder = self.folder / f"{name}-{model}-{batch}-{epochs}"
        if folder.is_dir():
            return folder
        rows = ["path,label"]
        pictures = folder / "data" / "toy" / "images"
        pictures.mkdir(parents=True)
        for number in range(40):
            pixels = np.full((8, 8), number, np.uint8)
            pixels[number % 8, number // 8] = 255
            Image.fromarray(pixels).save(pictures / f"{number:02}.png")
            rows.append(f"images/{number:02}.png,{'ab'[number % 2]}")
        (folder / "data" / "toy" / "labels.csv").write_text("\n".join(rows) + "\n")
        settings = SETTINGS.format(name=name, model=model, batch=batch, epochs=epochs, more=more)
        (folder / "mlstack.yaml").write_text(settings)
        for file in PROJECT.glob("*.py"):
            shutil.copy(file, folder)
        return folder

    def start(self, words: list[str], cwd: Path) -> "subprocess.Popen[str]":
        """Start a command with nothing noted yet."""
        self.marks.unlink(missing_ok=True)
        return subprocess.Popen(
            words,
            cwd=cwd,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, words: list[str], cwd: Path) -> list[dict[str, float | str]]:
        """Run to the end; give what was noted."""
        process = self.start(words, cwd)
        said, _ = process.communicate()
        assert process.returncode == 0, said
        return self.noted()

    def noted(self) -> list[dict[str, float | str]]:
        return [json.loads(line) for line in self.marks.read_text().splitlines()]

    def loop(self, words: list[str], cwd: Path) -> float:
        """CPU seconds of the loop alone."""
        found = {line["name"]: float(line["cpu_s"]) for line in self.run(words, cwd)}
        return found["end"] - found["start"]

    def first(self, words: list[str], cwd: Path) -> float:
        """CPU seconds of all processes up to the end of the first step."""
        found = [line for line in self.run(words, cwd) if line["name"] == "first"]
        assert found
        return sum(float(line["cpu_s"]) for line in found)

    def in_turns(self, cases: dict[str, Callable[[], float]]) -> dict[str, float]:
        found: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(self.rounds):
            for name, measure in cases.items():
                found[name].append(measure())
        return {name: statistics.median(values) for name, values in found.items()}


def python(script: str, *words: str) -> list[str]:
    return [sys.executable, str(PROJECT / script), *words]


def mlstack(*words: str) -> list[str]:
    return [sys.executable, "-m", "mlstack", "train", "--no-check", "--quiet", *words]


def mlp(bench: Bench) -> None:
    """Print CPU per step of a tiny network, where what surrounds the step is all there is."""
    from train_project.networks import EPOCHS, STEPS

    steps = STEPS["mlp"] * EPOCHS["mlp"]
    ours = bench.project("mlp", model="Net", batch=64)
    logging = bench.project("mlp", model="Logging", batch=64)
    found = bench.in_turns(
        {
            "raw loop": lambda: bench.loop(python("raw.py", "mlp"), bench.folder),
            "mlstack": lambda: bench.loop(mlstack(), ours),
            "mlstack, self.log": lambda: bench.loop(mlstack(), logging),
            "Lightning, self.log": lambda: bench.loop(python("alone.py", "defaults"), bench.folder),
        }
    )
    print(f"\nMLP 64-128-10, batch 64, epochs of {STEPS['mlp']} steps, CPU us a step")
    for name, seconds in found.items():
        against = seconds / found["raw loop"]
        print(f"  {name:20}{seconds / steps * 1e6:8.0f}  {against:5.2f} x raw")
    print(f"  mlstack against raw: {found['mlstack'] / found['raw loop']:.2f}x (at most 1.5x)")
    less = found["Lightning, self.log"] / found["mlstack"]
    print(f"  Lightning's defaults and self.log against mlstack: {less:.2f}x (at least 1.9x)")


def resnet(bench: Bench) -> None:
    """Print the rate of a network whose steps are long."""
    _rate(bench, "resnet", "Half a ResNet-18")


def resnet18(bench: Bench) -> None:
    """Print the rate of a ResNet-18 of its whole width."""
    _rate(bench, "resnet18", "A ResNet-18")


def _rate(bench: Bench, name: str, title: str) -> None:
    from train_project.networks import BATCH, EPOCHS, STEPS

    images = STEPS[name] * EPOCHS[name] * BATCH[name]
    ours = bench.project(name, model="Net", batch=BATCH[name], epochs=EPOCHS[name])
    found = bench.in_turns(
        {
            "raw loop": lambda: bench.loop(python("raw.py", name), bench.folder),
            "mlstack": lambda: bench.loop(mlstack(), ours),
        }
    )
    print(f"\n{title} at 64 px, batch 32, {STEPS[name]} steps, images a CPU second")
    for side, seconds in found.items():
        print(f"  {side:20}{images / seconds:8.1f}")
    print(f"  mlstack against raw: {found['raw loop'] / found['mlstack']:.3f} (at least 0.97)")


def write(bench: Bench) -> None:
    """Print what tracking adds to a step."""
    words = [sys.executable, "-c", WRITE]
    done = [
        subprocess.run(
            words, cwd=bench.folder, env=bench.environment, capture_output=True, check=True
        )
        for _ in range(bench.rounds)
    ]
    step, event = np.median([list(map(float, d.stdout.split())) for d in done], axis=0)
    print("\nTracking in the path of a step, CPU us")
    print(f"  four heartbeats and the progress: {step:.1f} (at most 5)")
    print(f"  a line of events.jsonl, four a second: {event:.0f}")


def ranks(bench: Bench) -> None:
    """Print what four ranks cost until their first step."""
    ours = bench.project("mlp", model="First", batch=64, epochs=1, more="max_steps: 1")
    found = bench.in_turns(
        {
            "mlstack": lambda: bench.first(mlstack("--ranks", "4"), ours),
            "Lightning": lambda: bench.first(python("alone.py", "ddp", "4"), bench.folder),
        }
    )
    print("\nFour ranks to the end of the first step, CPU seconds of all processes")
    for name, seconds in found.items():
        print(f"  {name:20}{seconds:8.2f}")
    print(f"  less by {found['Lightning'] / found['mlstack']:.2f}x (at least 3x)")


def deaths(bench: Bench) -> None:
    """Print how soon a run of two ranks is over when one is killed, and what is left of it."""
    folder = bench.project("mlp", model="Net", batch=64, epochs=1000)
    chance = random.Random(1)
    waits, named, told, orphans = [], [], 0, 0
    for number in range(max(bench.rounds, 4)):
        process = bench.start(mlstack("--ranks", "2"), folder)
        family, victim = _ranks_at_work(bench, process)
        time.sleep(chance.random())
        killed = time.time()
        os.kill(victim[number % 2].pid, signal.SIGKILL)
        said, _ = process.communicate()
        waits.append(time.time() - killed)
        run = max((folder / ".mlstack" / "runs").glob("2*"))
        last = json.loads((run / "events.jsonl").read_text().splitlines()[-1])
        named.append(last["at"] - killed)
        told += f"rank {number % 2} was killed by SIGKILL" in said
        _, alive = psutil.wait_procs(family, timeout=0.5)
        orphans += len(alive)
    print(f"\nA rank of two is killed, {len(waits)} times: seconds until ...")
    for what, found in (("the cause is recorded", named), ("the command has ended", waits)):
        print(f"  {what}: median {statistics.median(found):.2f}, longest {max(found):.2f}")
    print(f"  cause and rank named {told} times; orphans: {orphans}")


def _ranks_at_work(
    bench: Bench, process: "subprocess.Popen[str]"
) -> tuple[list[psutil.Process], dict[int, psutil.Process]]:
    """Wait until both ranks train; give all processes of a command, and the ranks by number."""
    while not bench.marks.is_file() or len(bench.noted()) < 2:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    numbers = {}
    for one in family:
        if one.name().startswith("mlstack-rank-"):
            numbers[int(one.name().removeprefix("mlstack-rank-"))] = one
    return family, numbers


def hang(bench: Bench) -> None:
    """Print how soon a rank that hangs in a step is named."""
    folder = bench.project("mlp", model="Hanging", batch=64)
    process = bench.start(mlstack("--ranks", "2"), folder)
    said, _ = process.communicate()
    ended = time.time()
    began = next(float(line["at"]) for line in bench.noted() if line["name"] == "hangs")
    first = next(line for line in said.splitlines() if "has not moved" in line)
    print("\nA rank of two hangs in a step (of 1 ms or so): seconds until the command has ended")
    print(f"  {ended - began:.2f} (at most 3 median steps and 10 s); {first.strip()}")


def start(bench: Bench) -> None:
    """Print what a small project costs until its first step."""
    ours = bench.project("mlp", model="First", batch=64, epochs=1, more="max_steps: 1")
    cases = {"mlstack": lambda: bench.first(mlstack(), ours)}
    for name, words in bench.peers.items():
        cases[name] = partial(bench.first, words, bench.folder)
    found = bench.in_turns(cases)
    print("\nA small project until the end of its first step, CPU seconds of all processes")
    for name, seconds in found.items():
        print(f"  {name:20}{seconds:8.2f}  {seconds / found['mlstack']:5.2f} x mlstack")
    for name in [name for name in PEERS if name not in bench.peers]:
        print(f"  {name}: left out, no environment was named that has it")


PEERS = {
    "Hugging Face Trainer": str(PROJECT / "hf.py"),
    "Ludwig": str(PROJECT / "ludwig_first.py"),
}
CASES = {f.__name__: f for f in (mlp, resnet, resnet18, write, ranks, deaths, hang, start)}


def main() -> None:
    """Run the cases and print their tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hf", help="Python of an environment with transformers and accelerate")
    parser.add_argument("--ludwig", help="Python that benchmarks/train_ludwig.py printed")
    parser.add_argument("--only", default=",".join(CASES))
    given = parser.parse_args()
    named = {"Hugging Face Trainer": given.hf, "Ludwig": given.ludwig}
    peers = {name: [python, PEERS[name]] for name, python in named.items() if python}
    print(f"{given.rounds} rounds, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.rounds, peers)
        for name in given.only.split(","):
            CASES[name](bench)


if __name__ == "__main__":
    main()
