"""A whole export beside the bare one, and what the package gives: time, size, speed, agreement.

A MobileNetV2 (2.2 million parameters, 32 x 32 RGB) and a transformer encoder (3.2 million, 64
patches), each trained on 600 digits until it gets no better. The peer is what people write by hand:
the same `torch.onnx.export(dynamo=True)` and onnxruntime's quantisation with its defaults (S8S8,
calibrated on the same images; dynamic INT8 for the encoder), in one process, nothing checked.

    python benchmarks/export.py [ROUNDS [NAME]]
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / name) for name in ("", "export")]
from export_runs import finish, python_path, write_run  # noqa: E402
from projects import make_project  # noqa: E402

from mlstack.records import dataset, run  # noqa: E402

TRAIN = """
import sys
import torch
from torch.nn import functional
from my_project.data import Images
from my_project.model import {name}

examples, checkpoint = sys.argv[1:]
torch.manual_seed(0)
data = Images(examples, batch_size=24, image_size={size}, channels={channels})
data.setup()
net = {name}().train()
optimizer = torch.optim.AdamW(net.parameters(), {lr})
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, {lr}, total_steps={epochs} * 15)
for _ in range({epochs}):
    for images, targets in data.train_dataloader():
        optimizer.zero_grad()
        functional.cross_entropy(net(images), targets).backward()
        optimizer.step()
        schedule.step()
net.eval()
with torch.inference_mode():
    right = torch.cat([net(x).argmax(1) == y for x, y in data.test_dataloader()])
torch.save({{"state_dict": net.state_dict()}}, checkpoint)
print(float(right.float().mean()))
"""
BARE = """
import sys
import torch
from my_project.data import Images
from my_project.model import {name}

examples, checkpoint, target = sys.argv[1:4]
data = Images(examples, batch_size=24, image_size={size}, channels={channels})
data.setup()
net = {name}().eval()
net.load_state_dict(torch.load(checkpoint)["state_dict"])
images = data.parts["train"].tensors[0]
torch.onnx.export(net, (images[:2],), target, dynamo=True, opset_version=20, external_data=False,
    input_names=["images"], output_names=["logits"],
    dynamic_shapes=({{0: torch.export.Dim("batch")}},), verbose=False)
"""
QUANTIZE = """
import onnx
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static

class Reader(CalibrationDataReader):
    def __init__(self):
        self.batches = iter(images[:256].split(16))
    def get_next(self):
        batch = next(self.batches, None)
        return None if batch is None else {"images": batch.numpy()}

model = onnx.load(target)
del model.graph.value_info[:]  # else the quantiser refuses the graph
onnx.save(model, target)
if sys.argv[4] == "static":
    quantize_static(target, target + ".int8", Reader())
else:
    quantize_dynamic(target, target + ".int8")
"""
MEASURE = """
import json, os, sys
from time import perf_counter
import numpy as np, onnxruntime

def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

target, inputs = sys.argv[1], np.load(sys.argv[2])
both = {name: session(target + end) for name, end in (("fp32", ""), ("int8", ".int8"))}
answers = {n: s.run(["logits"], {"images": inputs})[0].argmax(1) for n, s in both.items()}
taken = {name: [] for name in both}
for _ in range(5):
    for name, one in both.items():
        for call in range(43):
            start = perf_counter()
            one.run(["logits"], {"images": inputs[:1]})
            if call >= 3:
                taken[name].append(1000 * (perf_counter() - start))
print(json.dumps({"agreement": float((answers["fp32"] == answers["int8"]).mean()),
    "p50": {n: float(np.median(t)) for n, t in taken.items()},
    "size": {n: os.path.getsize(target + e) for n, e in (("fp32", ""), ("int8", ".int8"))}}))
"""
WATCH = """
import atexit, os, resource, sys

def say():
    used = resource.getrusage(resource.RUSAGE_SELF)
    with open(os.environ["EXPORT_WATCH"], "a") as out:
        out.write(f"{used.ru_utime + used.ru_stime:.3f} {' '.join(sys.orig_argv)}\\n")

atexit.register(say)
"""
EXPORT = ("-m", "mlstack", "export", "--set", "gates={}", "--json", "--precision")
AUTO = (*EXPORT, "auto")


@dataclass(frozen=True)
class Case:
    """One network and how it is trained."""

    name: str
    size: int
    channels: int
    epochs: int
    lr: float
    kind: str  # of INT8, by hand
    note: str = ""  # how it differs from the one of that name

    def code(self, text: str) -> str:
        """Fill a script in."""
        return text.format(
            name=self.name, size=self.size, channels=self.channels, epochs=self.epochs, lr=self.lr
        )


CASES = (
    Case("MobileNet", 32, 3, 48, 3e-3, "static"),
    Case("MobileNet", 32, 3, 16, 3e-3, "static", ", trained for a third as long"),
    Case("Encoder", 32, 1, 20, 1e-3, "dynamic"),
)


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    wall_s: float
    cpu_s: float


def python(project: Path, *words: object, **variables: str) -> tuple[str, Cost]:
    """Run Python in a project: what it printed, and what it took with all its children."""
    given = {"PYTHONPATH": python_path(project), "OMP_WAIT_POLICY": "PASSIVE"} | variables
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=project,
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, Cost(perf_counter() - start, cpu)


def trained(root: Path, case: Case) -> Path:
    """Make a project with a finished run of the network."""
    project = make_project(root / f"{case.name.lower()}-{case.epochs}", images=600)
    shutil.copy(Path(__file__).parent / "export_project/model.py", project / "my_project")
    config = project / "mlstack.yaml"
    text = config.read_text().replace(":Net", f":{case.name}")
    text = text.replace(
        "image_size: 16, channels: 1", f"image_size: {case.size}, channels: {case.channels}"
    )
    head, _, tail = text.partition("  args: {width")
    config.write_text(head + tail.partition("\n")[2])
    folder = write_run(project)
    paths = folder / dataset.EXAMPLES, folder / run.CHECKPOINTS / run.BEST
    said, _ = python(project, "-c", case.code(TRAIN), *paths)
    finish(folder, **{"test/acc": float(said.split()[-1])})
    print(f"{case.name}{case.note}: test/acc {float(said.split()[-1]):.4f}", flush=True)
    return project


def median(costs: list[Cost]) -> Cost:
    """Take the medians of both."""
    return Cost(
        statistics.median(c.wall_s for c in costs), statistics.median(c.cpu_s for c in costs)
    )


def measure(project: Path, case: Case, rounds: int) -> None:
    """Print one network's rows."""
    folder = next((project / ".mlstack/runs").iterdir())
    examples, checkpoint = folder / dataset.EXAMPLES, folder / run.CHECKPOINTS / run.BEST
    by_hand = project / "by_hand.onnx"
    bare, hand, ours = [], [], []
    for _ in range(rounds):
        words = (examples, checkpoint, by_hand, case.kind)
        bare.append(python(project, "-c", case.code(BARE), *words)[1])
        hand.append(python(project, "-c", case.code(BARE) + QUANTIZE, *words)[1])
        said, cost = python(project, *AUTO)
        ours.append(cost)
    answer = json.loads(said)
    package = project / answer["path"]
    base = median(bare)
    print(f"\n| {case.name}{case.note} | wall s | CPU s | x bare wall | x bare CPU |")
    print("|---|---|---|---|---|")
    for name, costs in (
        ("torch.onnx.export", bare),
        ("and INT8, by hand", hand),
        ("mlstack export", ours),
    ):
        cost = median(costs)
        print(
            f"| {name} | {cost.wall_s:.1f} | {cost.cpu_s:.1f} | {cost.wall_s / base.wall_s:.2f} "
            f"| {cost.cpu_s / base.cpu_s:.2f} |"
        )
    processes(project)
    variants(package)
    peer(project, case, by_hand)
    verify(project, package, rounds)
    whole, _ = python(project, *EXPORT, "fp32")
    verify(project, project / json.loads(whole)["path"], rounds)


def processes(project: Path) -> None:
    """Print what each process of one more export took until its end began."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sitecustomize.py").write_text(WATCH)
        said = Path(folder) / "said"
        path = os.pathsep.join([folder, python_path(project)])
        _, cost = python(project, *AUTO, PYTHONPATH=path, EXPORT_WATCH=str(said))
        lines = [line.split() for line in said.read_text().splitlines()]
    print("\n| process | CPU s |\n|---|---|")
    for seconds, *command in lines:
        worker = next((w.split(".")[-1] for w in command if ".worker." in w), "the command")
        print(f"| {worker} | {float(seconds):.2f} |")
    print(f"| starts and ends | {cost.cpu_s - sum(float(line[0]) for line in lines):.2f} |")


def variants(package: Path) -> None:
    """Print the package's table, as ratios to torch."""
    stored = json.loads((package / "mlstack/variants.json").read_text())
    torch = {t["batch"]: t["p50_ms"] for t in stored["training_code"]}
    whole = next(v["size_bytes"] for v in stored["variants"] if v["precision"] == "fp32")
    print("\n| variant | size | x torch at 1 / 8 / 32 rows | accuracy | agreement | max change | |")
    print("|---|---|---|---|---|---|---|")
    for row in (v for v in stored["variants"] if v.get("size_bytes")):
        speed = " / ".join(
            f"{t['p50_ms'] / torch[t['batch']]:.2f}" for t in row["times"] if t["batch"] in torch
        )
        print(
            f"| {row['precision']} | {row['size_bytes'] / 1e6:.2f} MB, "
            f"{row['size_bytes'] / whole:.2f}x | {speed} | {row['metrics']['test/acc']:.4f} "
            f"| {row['agreement']:.2%} | {row['max_probability_diff']:.2g} "
            f"| {'chosen' if row['chosen'] else row['why']} |"
        )
    print(f"\ntorch, ms at 1 / 8 / 32 rows: {' / '.join(f'{ms:.2f}' for ms in torch.values())}")


def peer(project: Path, case: Case, target: Path) -> None:
    """Print what was made by hand gives."""
    code = case.code(BARE).split("net =")[0]
    code += 'import numpy as np\nnp.save(target, data.parts["val"].tensors[0].numpy())\n'
    folder = next((project / ".mlstack/runs").iterdir())
    inputs = project / "val.npy"
    python(project, "-c", code, folder / dataset.EXAMPLES, "-", inputs)
    found = json.loads(python(project, "-c", MEASURE, target, inputs)[0])
    size, p50 = found["size"], found["p50"]
    print(
        f"by hand: int8 {size['int8'] / 1e6:.2f} MB, {size['int8'] / size['fp32']:.2f}x of fp32; "
        f"1 row {p50['int8']:.3f} ms, {p50['int8'] / p50['fp32']:.2f}x of fp32 "
        f"({p50['fp32']:.3f} ms); "
        f"agreement {found['agreement']:.2%}"
    )


def verify(project: Path, package: Path, rounds: int) -> None:
    """Print what `export verify` takes."""
    words = ("-m", "mlstack", "export", "verify", package, "--json")
    cost = median([python(project, *words)[1] for _ in range(3 * rounds)])
    size = sum(p.stat().st_size for p in package.rglob("*") if p.is_file())
    print(f"verify: {cost.wall_s:.2f} s wall, {cost.cpu_s:.2f} s CPU for {size / 1e6:.1f} MB")


def main() -> None:
    """Print all tables."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            if len(sys.argv) > 2 and case.name != sys.argv[2]:
                continue
            measure(trained(Path(folder), case), case, rounds)


if __name__ == "__main__":
    main()
