"""Trained module -> ONNX graph: dynamic batch, one file, nothing of this machine inside."""

import math
import sys
from collections import Counter
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from mlstack.errors import ConfigError, GateError, StepError
from mlstack.export.handover import Stored
from mlstack.export.kinds import CONVOLUTION, DEPTHWISE, PRODUCT
from mlstack.export.worker import untraced

OPSET = 20
# Ops whose answer changes from call to call.
RANDOM = frozenset({"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"}) | {
    "RandomUniform",
    "RandomUniformLike",
}


class Packed(nn.Module):
    """The user's module with its probabilities beside the logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Give logits and probabilities, both (batch, classes) in FP32."""
        logits = self.network(images).float()
        return logits, torch.softmax(logits, dim=-1)


def input_name(inputs: Stored) -> str:
    """Name the input: `images` for batches of uint8 images, else `input`."""
    return "images" if inputs.dtype == "|u1" and len(inputs.shape) == 4 else "input"


def to_onnx(
    module: nn.Module, example: Tensor, name: str, *, any_length: bool = False
) -> onnx.ModelProto:
    """Trace a module into a graph whose first dimension is any size.

    Args:
        module: the user's network.
        example: a batch.
        name: of the input.
        any_length: its second dimension may be smaller than in the example, too. Where the
            module knows no other length, the graph has that of the example.

    Raises:
        StepError: the module cannot be traced; what torch said is the problem.
        GateError: the graph would answer at random.
        ConfigError: it gives no logits.
    """
    batch = torch.export.Dim("batch", min=1)
    if any_length:
        tokens = torch.export.Dim("tokens", max=example.shape[1])
        try:
            return _traced(module, example, name, {0: batch, 1: tokens})
        except StepError as error:
            sys.stderr.write(f"the graph takes one length only: {error.problem}\n")  # the log
    return _traced(module, example, name, {0: batch})


def takes_any_length(model: onnx.ModelProto) -> bool:
    """Tell whether the second dimension of the input is free."""
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    return len(sizes) > 1 and not sizes[1].dim_value


def _traced(module: nn.Module, example: Tensor, name: str, free: dict[int, Any]) -> onnx.ModelProto:
    try:
        program = torch.onnx.export(
            Packed(module).eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=[name],
            output_names=["logits", "probabilities"],
            dynamic_shapes=(free,),
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise untraced.refusal(error, module) from error
    assert program is not None
    graph = program.model_proto
    _refuse_random(graph)
    _refuse_sigmoid(graph)
    return clean(graph)


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what names this machine or hinders quantising: node metadata and value infos."""
    graph = model.graph
    del graph.value_info[:]
    del model.metadata_props[:]
    del graph.metadata_props[:]
    model.doc_string = graph.doc_string = ""
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    graph.name = "mlstack"
    return model


def describe(model: onnx.ModelProto, facts: dict[str, str]) -> bytes:
    """Write facts into the graph's metadata and give its bytes: equal graphs, equal bytes."""
    del model.metadata_props[:]
    for key in sorted(facts):
        model.metadata_props.add(key=f"mlstack.{key}", value=facts[key])
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def work(model: onnx.ModelProto, row: list[int]) -> dict[str, int]:
    """Count the multiplications of one row: in convolutions, depthwise ones, matrix products.

    Args:
        model: the graph.
        row: shape of an input without its rows, where the graph leaves sizes free.
    """
    sizes = model.graph.input[0].type.tensor_type.shape.dim[1:]
    free = [(size, size.dim_param) for size in sizes if not size.dim_value]
    for size, known in zip(sizes, row, strict=True):
        size.dim_value = known
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    for size, name in free:
        size.dim_param = name
    shapes = {t.name: list(t.dims) for t in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        found_sizes = value.type.tensor_type.shape.dim
        shapes[value.name] = [
            max(size.dim_value, 1) for size in found_sizes
        ]  # a symbol counts as one
    found: Counter[str] = Counter()
    for node in graph.node:
        result = math.prod(shapes.get(node.output[0], [0]))
        if node.op_type == "Conv":
            kernel = shapes[node.input[1]][1:]  # (channels of a group, height, width)
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            kind = DEPTHWISE if groups > 1 and kernel[0] == 1 else CONVOLUTION
            found[kind] += result * math.prod(kernel)
        elif node.op_type in ("MatMul", "Gemm"):
            found[PRODUCT] += result * (shapes.get(node.input[0]) or [0])[-1]
    return dict(found)


def _refuse_random(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        training = any(a.name == "training_mode" and a.i == 1 for a in node.attribute)
        if training or node.op_type == "Dropout":
            raise GateError(
                f"the graph holds `{node.op_type}` in training mode; it would answer at random",
                hint="use nn.Dropout and nn.BatchNorm modules, which obey eval()",
            )
        if node.op_type in RANDOM:
            raise GateError(
                f"the graph draws random numbers (`{node.op_type}`); it would answer at random",
                hint="let forward draw them only `if self.training`",
            )


def _refuse_sigmoid(model: onnx.ModelProto) -> None:
    """Refuse a forward that ends in sigmoid: the softmax behind it makes its answers all alike.

    Two classes of 0.99 and 0.01 come out as 0.73 and 0.27.
    """
    made_by = {output: node for node in model.graph.node for output in node.output}
    node = made_by.get("logits")
    while node is not None and node.op_type in ("Cast", "Identity"):
        node = made_by.get(node.input[0])
    if node is not None and node.op_type == "Sigmoid":
        raise ConfigError(
            "model.class: forward ends in sigmoid; it must give logits, of which a package makes "
            "probabilities itself",
            hint="leave sigmoid out of forward (the weights stay right), and export again",
        )
