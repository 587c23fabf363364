"""Graphs that every reader lets through and that end the process which runs them."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def add(model: onnx.ModelProto, *nodes: onnx.NodeProto, **constants: np.ndarray) -> None:
    """Let nodes give a number `more`, which is added to the logits (`before`)."""
    graph = model.graph
    place = next(i for i, node in enumerate(graph.node) if "logits" in node.output)
    outputs = graph.node[place].output
    outputs[list(outputs).index("logits")] = "before"
    last = helper.make_node("Add", ["before", "more"], ["logits"])
    for number, node in enumerate((*nodes, last), start=1):
        graph.node.insert(place + number, node)
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants.items()
    )


def fatal(model: onnx.ModelProto) -> None:
    """Divide the least number by -1, which no 32 bits hold: SIGFPE.

    onnxruntime 1.31.1 folds constants when it opens a graph, and refuses a zero only.
    """
    add(
        model,
        helper.make_node("Div", ["least", "minus"], ["quotient"]),
        helper.make_node("Cast", ["quotient"], ["more"], to=TensorProto.FLOAT),
        least=np.array(-(2**31), np.int32),
        minus=np.array(-1, np.int32),
    )


def fatal_for_two(model: onnx.ModelProto) -> None:
    """Divide the least number by -1 when there is more than one row."""
    add(
        model,
        helper.make_node("Shape", ["before"], ["count"], end=1),
        helper.make_node("Greater", ["count", "one"], ["is_more"]),
        helper.make_node("Where", ["is_more", "minus", "one"], ["divisor"]),
        helper.make_node("Div", ["least", "divisor"], ["quotient"]),
        helper.make_node("Div", ["quotient", "least"], ["sign"]),
        helper.make_node("Sub", ["sign", "one"], ["none"]),
        helper.make_node("Cast", ["none"], ["more"], to=TensorProto.FLOAT),
        least=np.array([-(2**63)], np.int64),
        minus=np.array([-1], np.int64),
        one=np.array([1], np.int64),
    )
