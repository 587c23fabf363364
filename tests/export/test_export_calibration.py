"""The ranges that INT8 is calibrated with."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.calibrate import create_calibrator, load_tensors_data

from mlstack.export.handover import MODEL_FP32, Built, Part, QuantizeRequest
from mlstack.export.worker.arrays import ArrayFile
from mlstack.export.worker.quantize import Calibration, _ranges
from mlstack.records.package import Tensor


def write_graph(path: Path) -> None:
    """Write a convolution and its activation."""
    weights = np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["convolved"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["convolved"], ["logits"]),
    ]
    shapes = {"input": ["batch", 3, 8, 8], "logits": ["batch", 4, 8, 8]}
    first, last = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()
    )
    graph = helper.make_graph(
        nodes, "net", [first], [last], [numpy_helper.from_array(weights, "weights")]
    )
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


def request_for(folder: Path, inputs: np.ndarray) -> QuantizeRequest:
    with ArrayFile(folder / "calibration.raw") as kept:
        kept.append(inputs)
        stored = kept.stored()
    built = Built(
        input=Tensor(name="input", datatype="FP32", shape=[-1, 3, 8, 8]),
        outputs=[],
        classes=[],
        parameters=0,
        val=Part(inputs=stored, targets=stored, logits=stored),
        calibration=stored,
    )
    return QuantizeRequest(folder=str(folder), kinds=["int8-static"], built=built)


def test_ranges_are_those_that_onnxruntime_finds_by_itself(tmp_path: Path) -> None:
    source, kinds = tmp_path / MODEL_FP32, ["Conv", "Relu"]
    write_graph(source)
    inputs = np.random.default_rng(2).normal(size=(40, 3, 8, 8)).astype(np.float32)
    request = request_for(tmp_path, inputs)
    theirs = create_calibrator(source, kinds, (tmp_path / "augmented.onnx").as_posix())
    theirs.collect_data(Calibration(request))

    found = load_tensors_data(_ranges(source, request, kinds)).data

    expected = theirs.compute_data().data
    assert set(found) == set(expected) >= {"input", "convolved", "logits"}
    for name, one in expected.items():
        assert np.array_equal(found[name].range_value, one.range_value), name
    assert expected["input"].range_value == (inputs.min(), inputs.max())
