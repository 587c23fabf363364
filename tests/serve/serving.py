"""Packages made without torch, and real servers to ask."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from package_sides import write_sides
from PIL import Image

from mlstack import files
from mlstack.inputs import images
from mlstack.inputs.images import ImageSpec
from mlstack.records import proven
from mlstack.records.base import write
from mlstack.records.layout import Layout
from mlstack.records.package import (
    Golden,
    GoldenExample,
    Manifest,
    Signature,
    Tensor,
)

NAME = "digits-test"
CLASSES = [str(digit) for digit in range(10)]
SPEC = ImageSpec(16, 16, 1)
CONFIG = f"""\
version: 1
project: {{name: {NAME}, task: image-classification}}
data: {{source: data/digits}}
model: {{class: "m:M"}}
"""


@dataclass(frozen=True)
class Kind:
    """What is particular about a graph."""

    size: int = 16  # pixels of a side
    fails_on_white: bool = False  # an index out of bounds when no pixel is dark
    work: int = 0  # side of two matrices that are multiplied in every call


PLAIN = Kind()


def make_graph(path: Path, seed: int, kind: Kind = PLAIN) -> None:
    """Write uint8 [N,16,16,1] -> FP32 -> one linear layer -> logits, probabilities."""
    pixels = kind.size**2
    weights = np.random.default_rng(seed).normal(0, 0.01, (pixels, 10)).astype(np.float32)
    constants = {"weights": weights, "flat": np.array([-1, pixels])}
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weights"], ["sums"]),
    ]
    last = "sums"
    if kind.fails_on_white:
        constants |= {"each": np.array([1]), "ones": np.ones((128, 1), np.float32)}
        nodes += [
            helper.make_node("ReduceMin", ["rows", "each"], ["darkest"], keepdims=0),
            helper.make_node("Cast", ["darkest"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["ones", "index"], ["one"]),
            helper.make_node("Mul", [last, "one"], ["checked"]),
        ]
        last = "checked"
    if kind.work:
        constants |= {
            "matrix": np.zeros((kind.work, kind.work), np.float32),
            "nothing": np.array(0, np.float32),
        }
        nodes += [
            helper.make_node("ReduceMax", ["rows"], ["brightest"], keepdims=0),
            helper.make_node("Add", ["matrix", "brightest"], ["left"]),
            helper.make_node("MatMul", ["left", "left"], ["product"]),
            helper.make_node("ReduceMax", ["product"], ["largest"], keepdims=0),
            helper.make_node("Mul", ["largest", "nothing"], ["zero"]),
            helper.make_node("Add", [last, "zero"], ["worked"]),
        ]
        last = "worked"
    nodes += [
        helper.make_node("Identity", [last], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    shape = ["n", kind.size, kind.size, 1]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


def make_free_graph(path: Path) -> None:
    """Write FP32 [N,K] times a (4, 2) matrix: K is free in the signature and not in truth."""
    weights = numpy_helper.from_array(np.ones((4, 2), np.float32), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["rows", "weights"], ["sums"])],
        "free",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", "k"])],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["n", 2])],
        [weights],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def make_choice(path: Path) -> None:
    """Write INT64 [N] -> the row of a (5, 2) matrix that each number names."""
    rows = numpy_helper.from_array(np.arange(10, dtype=np.float32).reshape(5, 2), "rows")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["rows", "which"], ["row"])],
        "choice",
        [helper.make_tensor_value_info("which", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, ["n", 2])],
        [rows],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


def white_image() -> bytes:
    """Give an image that graphs of the kind `fails_on_white` fail on."""
    stream = io.BytesIO()
    Image.new("L", (20, 20), 255).save(stream, "PNG")
    return stream.getvalue()


def make_image(path: Path, seed: int) -> bytes:
    """Write a noisy grey image and give its bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


def expected(package: Path, content: bytes) -> np.ndarray:
    """Answer one image in this process; probabilities of shape (classes,)."""
    session = ort.InferenceSession(package / "model.onnx", providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[1]
    batch = images.decode(content, ImageSpec(size, size, 1))[None]
    return session.run(["probabilities"], {"images": batch})[0][0]


def make_package(
    root: Path, name: str = NAME, number: int = 1, seed: int = 1, kind: Kind = PLAIN
) -> Path:
    """Write a whole model package with a manifest that fits."""
    package = root / "models" / name / str(number)
    side = package / "mlstack"
    make_graph(package / "model.onnx", seed, kind)
    examples = []
    for index in range(3):
        content = make_image(side / "golden" / f"{index}.png", index)
        answer = expected(package, content)
        examples.append(
            GoldenExample(
                file=f"{index}.png",
                label=None,
                prediction=CLASSES[int(answer.argmax())],
                probabilities=answer.tolist(),
            )
        )
    shape = [-1, 10]
    write(side / "golden.json", Golden(tolerance=1e-4, examples=examples))
    write(
        side / "signature.json",
        Signature(
            task="image-classification",
            inputs=[Tensor(name="images", datatype="UINT8", shape=[-1, kind.size, kind.size, 1])],
            outputs=[
                Tensor(name="logits", datatype="FP32", shape=shape),
                Tensor(name="probabilities", datatype="FP32", shape=shape),
            ],
            classes=CLASSES,
            preprocess=ImageSpec(kind.size, kind.size, 1).to_json(),
        ),
    )
    write_sides(side, name, number, run_of(number))
    seal(package, name, number)
    proven.keep(Layout(root).proven, package)  # as `export` does
    return package


def run_of(number: int) -> str:
    """Name the run that a package is said to be of."""
    return f"20260101-00000{number}-test"


def seal(package: Path, name: str, number: int) -> None:
    """Write the manifest of what lies there."""
    side = package / "mlstack"
    (side / "manifest.json").unlink(missing_ok=True)
    paths = {p.relative_to(package).as_posix(): files.sha256(p) for p in files.walk(package)}
    write(
        side / "manifest.json",
        Manifest(
            model=name,
            number=number,
            run=run_of(number),
            created="",
            mlstack="0",
            files=paths,
        ),
    )


def mlstack(
    project: Path, *arguments: str, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "mlstack", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@dataclass
class Server:
    """A running server process."""

    process: subprocess.Popen[str]
    url: str
    project: Path
    said: str

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def metrics(self) -> dict[str, float]:
        text = httpx.get(f"{self.url}/metrics").text
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}


def start(project: Path, *arguments: str, environment: dict[str, str] | None = None) -> Server:
    """Start a server on a free port and wait for the line that says it answers."""
    stderr = (project / "stderr.txt").open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", "mlstack", "serve", "--port", "0", "--json", *arguments],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    stderr.close()
    said = process.stdout.readline()
    if not said:
        process.wait(10)
        process.stdout.close()
        raise AssertionError((project / "stderr.txt").read_text())
    return Server(process, json.loads(said)["url"], project, said)


def end(server: Server) -> None:
    if server.process.poll() is None:
        server.process.kill()
    server.process.wait(10)
    server.process.stdout.close()


def eventually(condition: Callable[[], object], seconds: float = 30) -> None:
    stop = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < stop, "it did not become true in time"
        time.sleep(0.05)
