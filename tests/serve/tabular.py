"""A package that takes rows, made without torch."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from package_sides import write_sides
from serving import run_of, seal

from mlstack.inputs import tables
from mlstack.inputs.tables import TableSpec
from mlstack.records import proven
from mlstack.records.base import write
from mlstack.records.layout import Layout
from mlstack.records.package import Golden, Signature, Tensor

NAME = "shop"
CONFIG = f"""\
version: 1
project: {{name: {NAME}, task: tabular}}
data: {{source: data/shop, label: kind}}
model: {{class: "m:M"}}
"""
# Postal codes look like numbers, and are none.
SPEC = TableSpec({"age": 40.0}, {"zip": ["01", "1", "2"], "member": ["false", "true"]})


def make(root: Path, *, width: int | str = SPEC.width) -> Path:
    """Write a package that answers `far` where the postal code is 2 or unknown, else `near`.

    Args:
        root: the project.
        width: of a row as the graph names it; a word leaves it open.
    """
    (root / "mlstack.yaml").write_text(CONFIG)
    package = root / "models" / NAME / "1"
    side = package / "mlstack"
    (side / "golden").mkdir(parents=True)
    _graph(package / "model.onnx", width)
    row = {"age": 1, "zip": "1", "member": True}
    (side / "golden" / "00.json").write_bytes(tables.encode_row(row))
    write(side / "golden.json", Golden(tolerance=1e-4, examples=[]))
    shape = [-1, 2]
    write(
        side / "signature.json",
        Signature(
            task="tabular",
            inputs=[Tensor(name="rows", datatype="FP32", shape=[-1, SPEC.width])],
            outputs=[Tensor(name="probabilities", datatype="FP32", shape=shape)],
            classes=["near", "far"],
            preprocess=SPEC.to_json(),
        ),
    )
    write_sides(side, NAME, 1, run_of(1))
    seal(package, NAME, 1)
    proven.keep(Layout(root).proven, package)
    return package


def _graph(path: Path, width: int | str) -> None:
    weights = np.zeros((SPEC.width, 2), np.float32)
    weights[1:3, 0] = weights[3:5, 1] = 5  # zip 01 and 1; zip 2 and any other
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["rows", "weights"], ["sums"]),
            helper.make_node("Softmax", ["sums"], ["probabilities"], axis=1),
        ],
        "shop",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(weights, "weights")],
    )
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
