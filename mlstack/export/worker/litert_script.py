"""Make .tflite files of a program that torch saved: `python -I litert_script.py JOB.json`.

It runs in the environment of the converter, where mlstack is not: it may import nothing of it.
"""

import itertools
import json
import math
import os
import re
import resource
import sys
from pathlib import Path
from types import TracebackType

JOB = json.loads(Path(sys.argv[1]).read_text())


def say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Leave the reason of a failure in a file, and all of it in the log."""
    sys.__excepthook__(kind, error, trace)
    line = next(iter(str(error).splitlines()), "")
    Path(JOB["problem"]).write_text(f"{kind.__name__}: {line[:300]}")


# Both before the imports: they may fail, and take most of the memory.
sys.excepthook = say
resource.setrlimit(resource.RLIMIT_AS, (JOB["limit_bytes"], JOB["limit_bytes"]))
os.environ.setdefault("JAX_PLATFORMS", "cpu")  # else jax looks for other devices

import litert_torch  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402
from ai_edge_quantizer import quantizer, recipe  # noqa: E402
from ai_edge_quantizer.algorithm_manager import AlgorithmName  # noqa: E402
from ai_edge_quantizer.qtyping import TFLOperationName as Op  # noqa: E402
from ai_edge_quantizer.utils import tfl_flatbuffer_utils as flat  # noqa: E402

LAYERS = (Op.CONV_2D, Op.DEPTHWISE_CONV_2D, Op.FULLY_CONNECTED)
LOGITS = "logits"  # what the last layer gives, within the name of the tensor


class Named(torch.nn.Module):
    """The program with its input and outputs called what the package calls them."""

    def __init__(self, program: torch.nn.Module, outputs: list[str]) -> None:
        super().__init__()
        self.program = program
        self.outputs = outputs

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give the outputs by name."""
        return dict(zip(self.outputs, self.program(*inputs.values()), strict=True))


def convert() -> bytes:
    """Give the model in FP32."""
    program = torch.export.load(JOB["program"])
    assert program.example_inputs is not None
    given = {JOB["input"]: program.example_inputs[0][0]}
    named = Named(program.module(), JOB["outputs"])
    model: bytes = litert_torch.convert(named, sample_kwargs=given).model_content()
    return model


def quantize(model: bytes, percent: int) -> bytes:
    """Give it in static INT8, but for what its first layers and the last one give.

    What the last layer gives are the logits: those beyond the calibrated range would be clipped.
    Its weights are INT8 all the same.
    """
    made = quantizer.Quantizer(bytearray(model), recipe.static_wi8_ai8())
    for scope in [*_first(model, percent), LOGITS]:
        made.update_quantization_recipe(
            scope, Op.ALL_SUPPORTED, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    made.add_dynamic_config(f".*{LOGITS}", Op.FULLY_CONNECTED, 8)
    for name in (Op.SOFTMAX, Op.INPUT, Op.OUTPUT):
        made.update_quantization_recipe(".+", name, algorithm_key=AlgorithmName.NO_QUANTIZE)
    rows = {"serving_default": _rows(model)}
    ranges = made.calibrate(rows, num_threads=len(os.sched_getaffinity(0)))
    return bytes(made.quantize(ranges, enable_progress_report=False).quantized_model)


def _rows(model: bytes) -> list[dict[str, np.ndarray]]:
    """Give the training examples that INT8 is calibrated with, one by one."""
    details = Interpreter(model_content=model).get_signature_runner().get_input_details()
    stored = JOB["calibration"]
    inputs = np.memmap(stored["file"], stored["dtype"], "r", shape=tuple(stored["shape"]))
    given = np.asarray(inputs).astype(details[JOB["input"]]["dtype"])
    return [{JOB["input"]: given[i : i + 1]} for i in range(len(given))]


def _first(model: bytes, percent: int) -> list[str]:
    """Find all before the first layer, and to the last of those with that share of the weights."""
    read = flat.read_model(bytearray(model))
    graph = read.subgraphs[0]
    sizes = {}
    for at, op in enumerate(graph.operators):
        code = read.operatorCodes[op.opcodeIndex].builtinCode
        if flat.TFL_OP_CODE_TO_NAME.get(code) in LAYERS:
            sizes[at] = math.prod(graph.tensors[op.inputs[1]].shape)
    held = dict(zip(sizes, itertools.accumulate(sizes.values()), strict=True))
    few = percent / 100 * sum(sizes.values())
    first = next(iter(sizes), 0)
    end = max([first, *(at + 1 for at in sizes if percent and (at == first or held[at] <= few))])
    scopes = [flat.get_op_scope(op, graph.tensors) for op in graph.operators[:end]]
    return [f"^{re.escape(scope)}$" for scope in scopes]


def main() -> None:
    """Write each file beside its name, and rename it when it is whole."""
    model = convert()
    for precision, percent in JOB["precisions"].items():
        content = model if percent is None else quantize(model, percent)
        target = Path(JOB["folder"]) / f"{precision}.tflite"
        target.with_suffix(".part").write_bytes(content)
        target.with_suffix(".part").rename(target)


main()
