"""Three projects with one package each: a tiny MLP, and a ResNet-18 that takes floats or pictures.

The weights are random: speed does not depend on them. The graphs are written without torch.
"""

import io
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from mlstack import files
from mlstack.inputs.images import ImageSpec
from mlstack.records.base import write
from mlstack.records.dataset_version import DatasetVersion
from mlstack.records.lineage import Lineage
from mlstack.records.package import Golden, Manifest, Metrics, Parity, Signature, Tensor
from mlstack.records.reference import Reference
from mlstack.records.run import CodeVersion, Environment
from mlstack.serve import live

SIDE = 64
CLASSES = {"mlp": 3, "cnn": 10, "pictures": 10}
CONFIG = """\
version: 1
project: {{name: {name}, task: image-classification}}
data: {{source: data/none}}
model: {{class: "m:M"}}
"""


class Graph:
    """Nodes and weights of a graph that is being written."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(seed)

    def weight(self, *shape: int, scale: float = 1.0) -> str:
        """Add a random weight, and give its name."""
        fan_in = int(np.prod(shape[1:])) or 1
        values = self.random.normal(0, scale * (2 / fan_in) ** 0.5, shape).astype(np.float32)
        return self.constant(values)

    def constant(self, values: np.ndarray) -> str:
        """Add a constant, and give its name."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, *inputs: str, out: str = "", **attributes: object) -> str:
        """Add a node, and give the name of its output."""
        name = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def linear(self, x: str, wide: int, narrow: int, out: str = "") -> str:
        """Add a fully connected layer."""
        bias = self.constant(np.zeros(narrow, np.float32))
        return self.node("Gemm", x, self.weight(narrow, wide), bias, out=out, transB=1)

    def conv(self, x: str, wide: int, narrow: int, *, kernel: int = 3, stride: int = 1) -> str:
        """Add a convolution; batch norm is folded into its bias, as after an export."""
        bias = self.constant(np.zeros(narrow, np.float32))
        weight = self.weight(narrow, wide, kernel, kernel, scale=0.7)
        pads = [kernel // 2] * 4
        return self.node("Conv", x, weight, bias, strides=[stride] * 2, pads=pads)

    def block(self, x: str, wide: int, narrow: int, stride: int) -> str:
        """Add a residual block of two convolutions."""
        inner = self.node("Relu", self.conv(x, wide, narrow, stride=stride))
        inner = self.conv(inner, narrow, narrow)
        if stride != 1 or wide != narrow:
            x = self.conv(x, wide, narrow, kernel=1, stride=stride)
        return self.node("Relu", self.node("Add", inner, x))

    def resnet18(self, x: str) -> str:
        """Add the body of a ResNet-18 (He et al. 2015); gives (n, 512)."""
        x = self.node("Relu", self.conv(x, 3, 64, kernel=7, stride=2))
        x = self.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        wide = 64
        for stage, narrow in enumerate((64, 128, 256, 512)):
            x = self.block(x, wide, narrow, 1 if stage == 0 else 2)
            x = self.block(x, narrow, narrow, 1)
            wide = narrow
        return self.node("Flatten", self.node("GlobalAveragePool", x))


def make_graph(kind: str, path: Path, seed: int) -> Tensor:
    """Write the graph of `mlp`, `cnn` or `pictures`, and give its input."""
    graph = Graph(seed)
    shape = {"mlp": [16], "cnn": [3, SIDE, SIDE], "pictures": [SIDE, SIDE, 3]}[kind]
    classes = CLASSES[kind]
    if kind == "mlp":
        x = graph.node("Relu", graph.linear("x", 16, 64))
        x = graph.node("Relu", graph.linear(x, 64, 64))
        logits = graph.linear(x, 64, classes, out="logits")
    else:
        x = "x"
        if kind == "pictures":
            x = graph.node("Cast", x, to=TensorProto.FLOAT)
            x = graph.node("Div", x, graph.constant(np.float32([255])))
            x = graph.node("Transpose", x, perm=[0, 3, 1, 2])
        logits = graph.linear(graph.resnet18(x), 512, classes, out="logits")
    graph.node("Softmax", logits, out="probabilities", axis=1)
    element = TensorProto.UINT8 if kind == "pictures" else TensorProto.FLOAT
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", classes])
        for name in ("logits", "probabilities")
    ]
    made = helper.make_graph(
        graph.nodes,
        kind,
        [helper.make_tensor_value_info("x", element, ["n", *shape])],
        outputs,
        graph.weights,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=9), path)
    return Tensor(name="x", datatype="UINT8" if kind == "pictures" else "FP32", shape=[-1, *shape])


def make_project(kind: str, home: Path, *, packages: int = 1, settings: str = "") -> Path:
    """Write a project with packages 1, 2 ... of other weights each; the first is live."""
    root = home / kind
    root.mkdir(parents=True)
    (root / "mlstack.yaml").write_text(CONFIG.format(name=kind) + settings)
    for number in range(1, packages + 1):
        _make_package(kind, root / "models" / kind / str(number), number)
    live.promote(root / "models" / kind, 1)
    return root


def _make_package(kind: str, package: Path, number: int) -> None:
    given = make_graph(kind, package / "model.onnx", seed=number)
    side = package / "mlstack"
    classes = CLASSES[kind]
    names = [f"class {index}" for index in range(classes)]
    outputs = [
        Tensor(name=name, datatype="FP32", shape=[-1, classes])
        for name in ("logits", "probabilities")
    ]
    spec = ImageSpec(SIDE, SIDE, 3).to_json() if kind == "pictures" else None
    task = "image-classification"
    signature = Signature(
        task=task, inputs=[given], outputs=outputs, classes=names, preprocess=spec
    )
    write(side / "signature.json", signature)
    write(side / "golden.json", Golden(tolerance=1e-4, examples=[]))
    write(side / "metrics.json", Metrics(values={}))
    parity = Parity(
        examples=0,
        batch_sizes=[],
        max_abs_diff=0,
        output_scale=1,
        max_relative_diff=0,
        agreement=1,
    )
    write(side / "parity.json", parity)
    write(side / "reference.json", Reference(rows=0, origin="benchmark"))
    run = f"20260101-0000{number:02}-bench"
    lineage = Lineage(
        model=kind,
        number=number,
        run=run,
        created="",
        dataset=DatasetVersion(name=kind, source=f"data/{kind}", md5="0.dir"),
        code=CodeVersion(),
        environment=Environment(python="3.11", platform="linux", cpu_count=1),
        config={},
        seed=number,
        checkpoint_sha256="",
    )
    write(side / "lineage.json", lineage)
    (package / "README.md").write_text(f"# {kind} {number}\n")
    hashes = {p.relative_to(package).as_posix(): files.sha256(p) for p in files.walk(package)}
    manifest = Manifest(model=kind, number=number, run=run, created="", mlstack="0", files=hashes)
    write(side / "manifest.json", manifest)


def example(kind: str, seed: int = 0) -> np.ndarray:
    """Give one input of a model, with its row in front."""
    random = np.random.default_rng(seed)
    if kind == "mlp":
        return random.normal(size=(1, 16)).astype(np.float32)
    if kind == "cnn":
        return random.normal(size=(1, 3, SIDE, SIDE)).astype(np.float32)
    return random.integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)


def picture(seed: int = 0) -> bytes:
    """Give a JPEG of 64 x 64 pixels, smooth as photographs are (about 2 kB)."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    content = io.BytesIO()
    image.save(content, "JPEG", quality=90)
    return content.getvalue()


def session(path: Path, threads: int) -> ort.InferenceSession:
    """Open a graph as every server here does: no spinning, `threads` a call."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
