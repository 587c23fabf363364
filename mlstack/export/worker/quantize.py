"""`python -m mlstack.export.worker.quantize REQUEST`: a smaller graph, by onnxruntime's own tools.

Which kind is faster depends on the graph: dynamic INT8 makes a convolutional net several times
slower and a transformer twice as fast, static INT8 helps both. A process of its own, because a
conversion that goes wrong can crash the runtime.
"""

import itertools
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.calibrate import MinMaxCalibrater, save_tensors_data
from onnxruntime.transformers.float16 import convert_float_to_float16

from mlstack import files
from mlstack.errors import DataError
from mlstack.export import kinds
from mlstack.export.handover import MODEL_FP32, Quantized, QuantizeRequest, Said
from mlstack.export.worker.arrays import opened
from mlstack.export.worker.channel import answer
from mlstack.export.worker.on_onnxruntime import PROVIDERS, quiet
from mlstack.export.worker.on_onnxruntime import REFUSALS as RUNTIME
from mlstack.export.worker.session import limit
from mlstack.records.worker import WorkerProgress

BATCH = 16
RANGES = "ranges.json"
SPARE = 400  # bytes of what calibration keeps for each byte of input: all tensors, in FP32
PRODUCTS = ("MatMul", "Gemm")
# What stands between convolutions. Without Clip, the ranges of a ReLU6 are those before it.
AROUND = ("MaxPool", "AveragePool", "GlobalAveragePool", "Relu", "Clip", "Add", "Concat")
# What the converters raise on a graph that they cannot convert.
REFUSALS = (*RUNTIME, ValueError, TypeError, RuntimeError, KeyError, NotImplementedError)


def quantize(request: QuantizeRequest) -> Iterator[Said]:
    """Write each smaller graph beside the one in full precision; say of each that it is there."""
    folder = Path(request.folder)
    source = folder / MODEL_FP32
    calibration = request.built.calibration
    kept = Path(calibration.file).stat().st_size if calibration else 0
    limit(source, request.limit_s, extra_bytes=SPARE * kept)
    for kind in request.kinds:
        yield WorkerProgress(text=f"converting to {kind}", done=0, total=1)
        yield Quantized(precision=kind, problem=_convert(kind, source, request))


def _convert(kind: str, source: Path, request: QuantizeRequest) -> str:
    """Convert to one kind; give what hindered it."""
    target = source.with_name(f"{kind}.onnx")
    try:
        if kind == "fp16":
            onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
        elif kind.startswith("int8-static"):
            _static(source, target, request, kind)
        else:
            _dynamic(source, target, request)
    except REFUSALS as error:
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
    _finish(target, onnx.load(source), kind)
    return ""


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


def _static(source: Path, target: Path, request: QuantizeRequest, kind: str) -> None:
    """Calibrate on real data; U8S8, or S8S8 with zero points of zero as TensorRT wants them.

    U8S8 is 1.3 to 1.9 times as fast as S8S8 on x86; arithmetic before the first convolution stays
    in full precision. So does what matrix products give: the last one's are the logits, and those
    of inputs beyond the calibrated range would be clipped. Percentiles and entropy for ranges, and
    a correction of the biases (Nagel et al. 2019), did not help mobile networks; sparing their
    first layers did (docs/architecture.md).
    """
    operators = ["Conv", *PRODUCTS, *AROUND]
    symmetric = "s8s8" in kind
    _, _, percent = kind.partition(kinds.AFTER)
    quantize_static(
        source,
        target,
        calibration_cache_path=_ranges(source, request, operators),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=operators,
        nodes_to_exclude=_first_layers(onnx.load(source), int(percent) / 100) if percent else [],
        extra_options={
            "ActivationSymmetric": symmetric,
            "OpTypesToExcludeOutputQuantization": list(PRODUCTS),
        },
    )


class Ranges(MinMaxCalibrater):  # type: ignore[misc]  # untyped in onnxruntime
    """Smallest and largest value of each tensor, found by threads that sleep while they wait.

    Those of the class above spin: a third of the CPU time of calibrating.
    """

    def create_inference_session(self) -> None:
        """Open the graph that gives these values as further outputs."""
        graph = self.augmented_model_path
        options = quiet(onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
        self.infer_session = onnxruntime.InferenceSession(
            graph, options, providers=[PROVIDERS["cpu"]]
        )


def _ranges(source: Path, request: QuantizeRequest, operators: list[str]) -> Path:
    """Write what onnxruntime would find, where it looks for what it found before.

    Every static kind of one export has the same ranges; a second attempt reads them.
    """
    found = source.with_name(RANGES)
    if found.is_file():
        return found
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        graph = Path(folder) / "augmented.onnx"
        ranges = Ranges(source, operators, graph.as_posix())
        ranges.augment_graph()
        ranges.create_inference_session()
        ranges.collect_data(Calibration(request))
        save_tensors_data(ranges.compute_data(), found)
    return found


def _first_layers(model: onnx.ModelProto, share: float) -> list[str]:
    """Name the first layer, and all after it that together have this share of the weights."""
    sizes = {weights.name: math.prod(weights.dims) for weights in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", *PRODUCTS)]
    held = list(itertools.accumulate(sizes.get(node.input[1], 0) for node in layers))
    return [n.name for i, n in enumerate(layers) if i == 0 or held[i] <= share * held[-1]]


def _dynamic(source: Path, target: Path, request: QuantizeRequest) -> None:
    # Beside matrix products, a few convolutions stay as they are: in dynamic INT8 they are slow.
    work = request.built.work
    mixed = 0 < kinds.convolutions(work) < work.get(kinds.PRODUCT, 0)
    operators = [*PRODUCTS, "Gather", "LSTM", "Attention"] if mixed else None
    quantize_dynamic(
        source,
        target,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=operators,
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
    answer(QuantizeRequest, quantize)
