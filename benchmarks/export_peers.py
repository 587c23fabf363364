"""`mlstack export` beside optimum's and Ultralytics' own export of the same trained weights.

    python benchmarks/export_peers.py [--optimum PYTHON] [--ultralytics PYTHON] [--rounds N]
                                      [--work FOLDER]

Optimum exports a DistilBERT of transformers (four layers of 256) that was trained for a moment on
the texts of the template, Ultralytics a YOLO11n-cls that was trained on its digits at 64 x 64.
mlstack exports the same classes, wrapped as a user's network and imported from the peer's own
environment. Each peer runs in that environment, by the calls of its guides (`to_optimum.py`,
`to_ultralytics.py`); a peer whose Python is not given is skipped. FOLDER keeps what was trained.

    pip install torch==2.13.0 optimum-onnx[onnxruntime]==0.1.0 onnxscript==0.7.2
    pip install torch==2.13.0 onnx onnxruntime onnxslim opencv-python-headless matplotlib polars \\
        psutil pyyaml requests scipy ultralytics-thop
    pip install --no-deps ultralytics==8.4.190 torchvision==0.28.0
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
from PIL import Image

from mlstack.records import dataset, run

HERE = Path(__file__).parent
PARTS = HERE / "export_project"
CALIBRATION = 256  # pictures, as mlstack takes
ANSWERS = """
import sys
import numpy as np
import torch
from peer.data import {data}
from peer.network import Network

examples, checkpoint, folder = sys.argv[1:]
data = {data}(examples{args})
data.setup()
net = Network(num_classes=10).eval()
net.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
torch.save(net.net.state_dict(), folder + "/weights.pt")
inputs = torch.cat([data.parts[part].tensors[0] for part in ("val", "test")])
with torch.inference_mode():
    answers = torch.cat([net(rows).softmax(1) for rows in inputs.split(32)])
np.savez(folder + "/asked.npz", inputs=inputs.numpy(), answers=answers.numpy())
"""
Feed = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Case:
    """A peer, and the network that it exports."""

    peer: str
    template: str
    network: str
    data: str
    args: str  # of the data, as code
    epochs: int
    links: tuple[str, ...]  # what the network imports from the peer's environment
    made: tuple[str, str]  # fp32 and INT8, below the peer's folder
    feed: Feed  # mlstack's input -> the peer's
    checked: dict[str, str]


CASES = (
    Case(
        "optimum",
        "text-classification",
        "bert",
        "Texts",
        "",
        2,
        ("transformers", "huggingface_hub", "tokenizers", "safetensors"),
        ("optimum/model.onnx", "optimum/model_quantized.onnx"),
        lambda rows: {
            "input_ids": rows.astype(np.int64),
            "attention_mask": (rows != 0).astype(np.int64),
        },
        {"fp32": "random inputs, once; more than 1e-5 is a warning", "int8": "the same, fp32 only"},
    ),
    Case(
        "ultralytics",
        "image-classification",
        "yolo",
        "Images",
        ", image_size=64, channels=3",
        6,
        ("ultralytics", "cv2"),
        ("yolo11n-cls.onnx", "yolo11n-cls_int8.onnx"),
        lambda rows: {"images": rows.transpose(0, 3, 1, 2).astype(np.float32) / 255},
        {"fp32": "nothing", "int8": "nothing"},
    ),
)


@dataclass(frozen=True)
class Cost:
    """What a command took, with all its children."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Bench:
    """A case with its trained project and the peer's folder."""

    case: Case
    python: Path  # the peer's
    project: Path
    folder: Path

    def environment(self, *, of_peer: bool) -> dict[str, str]:
        """Give the environment of a process; nothing is fetched from anywhere."""
        path = [] if of_peer else [str(self.folder / "links"), str(HERE.parent)]
        return os.environ | {
            "PYTHONPATH": os.pathsep.join(path),
            "HF_HUB_OFFLINE": "1",
            "YOLO_OFFLINE": "true",
            "YOLO_CONFIG_DIR": str(self.folder),
        }

    def mlstack(self, *words: object) -> tuple[str, Cost]:
        """Run Python in the project."""
        return timed([sys.executable, *words], self.project, self.environment(of_peer=False))

    def peer(self, what: str) -> Cost:
        """Run the peer's script."""
        script = PARTS / f"to_{self.case.peer}.py"
        command = [self.python, script, self.folder, what]
        return timed(command, self.folder, self.environment(of_peer=True))[1]


def timed(command: list[object], folder: Path, environment: dict[str, str]) -> tuple[str, Cost]:
    """Run a command: what it printed, and what it took."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    wall = perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{command}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, Cost(wall, cpu)


def prepared(case: Case, python: Path, work: Path) -> Bench:
    """Train the network, unless FOLDER holds it, and lay out what the peer exports."""
    home = work / case.peer
    bench = Bench(case, python, home / "peer", home / "made")
    if not (bench.folder / "asked.npz").is_file():
        shutil.rmtree(home, ignore_errors=True)
        bench.folder.mkdir(parents=True)
        link(bench)
        words = ("init", "peer", "--template", case.template)
        timed([sys.executable, "-m", "mlstack", *words], home, bench.environment(of_peer=False))
        shutil.copy(PARTS / f"{case.network}.py", bench.project / "peer" / "network.py")
        configure(bench.project / "mlstack.yaml")
        bench.mlstack("-m", "mlstack", "train", "--epochs", case.epochs)
        (found,) = (bench.project / ".mlstack/runs").iterdir()
        paths = found / dataset.EXAMPLES, found / run.CHECKPOINTS / run.BEST, bench.folder
        bench.mlstack("-c", ANSWERS.format(data=case.data, args=case.args), *paths)
        pictures(bench, found / dataset.EXAMPLES)
        bench.peer("prepare")
    return bench


def link(bench: Bench) -> None:
    """Let mlstack's Python import the network's library, and nothing else of the environment."""
    (site,) = bench.python.parents[1].glob("lib/python*/site-packages")
    (bench.folder / "links").mkdir()
    for name in bench.case.links:
        for found in (site / name, *site.glob(f"{name}-*.dist-info")):
            (bench.folder / "links" / found.name).symlink_to(found)


def configure(path: Path) -> None:
    """Name the network in the template's mlstack.yaml, with all gates and no search."""
    kept, section = [], ""
    for line in path.read_text().splitlines():
        section = line if line[:1].strip() else section
        if section.startswith(("gates:", "tune:", "monitor:")) or "lr:" in line:
            continue
        line = "  class: peer.network:Network" if line.startswith("  class:") else line
        kept.append(line.replace("image_size: 16, channels: 1", "image_size: 64, channels: 3"))
    path.write_text("\n".join([*kept, "gates: {}", ""]))


def pictures(bench: Bench, examples: Path) -> None:
    """Lay pictures of train out as Ultralytics wants them; it takes none below ten pixels."""
    if bench.case.data != "Images":
        return
    rows = [row for row in pq.read_table(examples).to_pylist() if row["split"] == "train"]
    for row in rows[:CALIBRATION]:
        picture = Image.open(row["path"]).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
        for part in ("train", "val"):
            folder = bench.folder / "pictures" / part / row["label"]
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / Path(row["path"]).name)


def measure(bench: Bench, rounds: int) -> None:
    """Print one case's tables."""
    case = bench.case
    costs: dict[str, list[Cost]] = {}
    files: dict[str, Path] = {}
    checked = {}
    for _ in range(rounds):
        for precision, name in (("fp32", case.made[0]), ("int8", case.made[1])):
            label = f"{case.peer} {precision}"
            costs.setdefault(label, []).append(bench.peer(precision))
            files[label] = kept(bench, bench.folder / name, precision)
            checked[label] = case.checked[precision]
        for precision in ("fp32", "auto"):
            label = f"mlstack {precision}"
            words = ("-m", "mlstack", "export", "--precision", precision, "--json")
            said, cost = bench.mlstack(*words)
            costs.setdefault(label, []).append(cost)
            answer = json.loads(said)
            files[label] = bench.project / answer["path"] / "model.onnx"
            checked[label] = f"{len(answer['gates'])} gates on {answer['precision']}"
    first, second = (median(costs[f"{case.peer} {p}"]) for p in ("fp32", "int8"))
    print(
        f"\n| {case.network} | wall s | CPU s | x the peer's CPU | checked |\n|---|---|---|---|---|"
    )
    for label, found in costs.items():
        cost = median(found)
        base = first if label.endswith("fp32") else second
        print(
            f"| {label} | {cost.wall_s:.1f} | {cost.cpu_s:.1f} | {cost.cpu_s / base.cpu_s:.2f} "
            f"| {checked[label]} |",
            flush=True,
        )
    answers(bench, files)


def kept(bench: Bench, made: Path, precision: str) -> Path:
    """Keep a peer's file: the next export may delete it."""
    return Path(shutil.copy(made, bench.folder / f"kept-{precision}.onnx"))


def median(costs: list[Cost]) -> Cost:
    """Take the medians of both."""
    return Cost(
        statistics.median(c.wall_s for c in costs), statistics.median(c.cpu_s for c in costs)
    )


def opened(path: Path) -> onnxruntime.InferenceSession:
    """Open a graph; its threads rest between calls."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def answers(bench: Bench, files: dict[str, Path]) -> None:
    """Print size, agreement with torch and times of all graphs, in turns in one process."""
    with np.load(bench.folder / "asked.npz") as asked:
        inputs, wanted = asked["inputs"], asked["answers"]
    graphs = {label: opened(path) for label, path in files.items()}
    feeds = {label: feed(bench.case, label, graphs[label]) for label in files}
    p50 = {label: {} for label in files}
    for rows in (1, 8, 32):
        taken = {label: [] for label in files}
        for _ in range(7):
            for label, graph in graphs.items():
                taken[label] += calls(graph, feeds[label](inputs[:rows]))
        p50 |= {label: p50[label] | {rows: statistics.median(taken[label])} for label in files}
    print("\n| | size | p50 ms at 1 / 8 / 32 rows | agreement | max change of a probability |")
    print("|---|---|---|---|---|")
    for label, graph in graphs.items():
        found = np.concatenate(
            [graph.run(None, feeds[label](part))[0] for part in np.array_split(inputs, 20)]
        )
        found = found if bench.case.peer in label and "Images" in bench.case.data else soft(found)
        speed = " / ".join(f"{ms:.2f}" for ms in p50[label].values())
        print(
            f"| {label} | {files[label].stat().st_size / 1e6:.2f} MB | {speed} "
            f"| {(found.argmax(1) == wanted.argmax(1)).mean():.2%} of {len(wanted)} "
            f"| {np.abs(found - wanted).max():.2g} |"
        )


def feed(case: Case, label: str, graph: onnxruntime.InferenceSession) -> Feed:
    """Say how a graph is asked; to change the type of the input is not timed."""
    if label.startswith("mlstack"):
        return lambda rows: {graph.get_inputs()[0].name: rows}
    return case.feed


def calls(graph: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> list[float]:
    """Time a block of calls, in milliseconds; the first three warm up."""
    taken = []
    for call in range(13):
        start = perf_counter()
        graph.run(None, inputs)
        if call >= 3:
            taken.append(1000 * (perf_counter() - start))
    return taken


def soft(logits: np.ndarray) -> np.ndarray:
    """Turn logits into probabilities."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser()
    for case in CASES:
        parser.add_argument(f"--{case.peer}", type=Path, help="its Python")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="a folder that keeps what is trained")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = (given.work or Path(folder)).resolve()
        for case in CASES:
            python = getattr(given, case.peer)
            if python is None:
                print(f"{case.peer}: skipped, for --{case.peer} PYTHON is not given")
                continue
            measure(prepared(case, python.absolute(), work), given.rounds)


if __name__ == "__main__":
    main()
