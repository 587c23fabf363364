"""`python -m mlstack.export.worker.quantize REQUEST`: a smaller graph, by onnxruntime's own tools.

Which kind is faster depends on the graph: dynamic INT8 makes a convolutional net several times
slower and a transformer twice as fast, static INT8 helps both. A process of its own, because a
conversion that goes wrong can crash the runtime.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.transformers.float16 import convert_float_to_float16

from mlstack import files
from mlstack.errors import DataError
from mlstack.export.handover import MODEL_FP32, Quantized, QuantizeRequest, Said
from mlstack.export.worker.arrays import opened
from mlstack.export.worker.channel import answer

BATCH = 16


def quantize(request: QuantizeRequest) -> Iterator[Said]:
    """Write the smaller graph beside the one in full precision."""
    folder = Path(request.folder)
    source, target = folder / MODEL_FP32, folder / request.target
    kind = choose(request.precision, onnx.load(source))
    if kind == "fp16":
        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
    elif kind == "int8-static":
        _static(source, target, Calibration(request))
    else:
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True)
    _finish(target, onnx.load(source), kind)
    yield Quantized(precision=kind)


def choose(precision: str, model: onnx.ModelProto) -> str:
    """Choose the kind of INT8 that suits the graph: static where there are convolutions."""
    if precision != "int8":
        return precision
    kinds = {node.op_type for node in model.graph.node}
    return "int8-static" if "Conv" in kinds else "int8-dynamic"


class Calibration(CalibrationDataReader):  # type: ignore[misc]  # untyped in onnxruntime
    """Real training inputs, in small batches; noise would set the ranges wrong."""

    def __init__(self, request: QuantizeRequest) -> None:
        if request.built.calibration is None or not request.built.calibration.shape[0]:
            raise DataError("there are no training examples to calibrate INT8 with")
        inputs = opened(request.built.calibration)
        self._name = request.built.input.name
        self._batches = iter([inputs[i : i + BATCH] for i in range(0, len(inputs), BATCH)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Give the next batch by input name; None after the last one."""
        batch = next(self._batches, None)
        return None if batch is None else {self._name: np.ascontiguousarray(batch)}


def _static(source: Path, target: Path, calibration: Calibration) -> None:
    # U8S8 is 1.3 to 1.9 times as fast as S8S8 on x86; arithmetic before the first convolution
    # stays in full precision.
    quantize_static(
        source,
        target,
        calibration,
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv", "Gemm", "MatMul", "MaxPool", "Relu", "Add"],
    )


def _finish(target: Path, source: onnx.ModelProto, kind: str) -> None:
    """Carry the metadata over, and write the same bytes for the same graph."""
    made = onnx.load(target)
    del made.metadata_props[:], made.graph.value_info[:]
    for entry in source.metadata_props:
        value = kind if entry.key == "mlstack.precision" else entry.value
        made.metadata_props.add(key=entry.key, value=value)
    files.write_bytes(target, made.SerializeToString(deterministic=True))


if __name__ == "__main__":
    sys.exit(answer(QuantizeRequest, quantize))
