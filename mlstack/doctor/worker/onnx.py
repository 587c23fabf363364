"""What onnxruntime can do here: each provider computes a sum that is known beforehand."""

import sys
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from mlstack.doctor.seen import OnnxSeen

ASKED = ("CPUExecutionProvider", "CUDAExecutionProvider")

VARINT, BYTES = 0, 2
FLOAT = 1


def look_at_onnxruntime() -> OnnxSeen:
    """Run a graph of one node on each provider, and see that the session really uses it."""
    try:
        import onnxruntime  # noqa: PLC0415  that it cannot be imported is a finding
    except Exception as error:
        return OnnxSeen(problem=(str(error).splitlines() or ["it cannot be imported"])[0])
    offered = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in offered:
        with redirect_stdout(sys.stderr):  # it prints what it does not find
            onnxruntime.preload_dlls()  # those of the nvidia packages and of torch, as `serve` does
    problems = {name: _try(onnxruntime, name) for name in ASKED if name in offered}
    return OnnxSeen(version=onnxruntime.__version__, problems=problems)


def _try(onnxruntime: Any, provider: str) -> str:
    try:
        session = onnxruntime.InferenceSession(doubling_graph(), providers=[provider])
    except Exception as error:
        return (str(error).splitlines() or ["no session"])[0]
    if session.get_providers()[0] != provider:
        return f"the session runs on {session.get_providers()[0]}"
    (answer,) = session.run(None, {"x": np.array([21], dtype=np.float32)})
    return "" if answer[0] == 42 else f"21 + 21 is {answer[0]:g}"


def doubling_graph() -> bytes:
    """Encode the ONNX graph y = x + x by hand (protobuf), for `onnx` may not be installed.

    Field numbers are those of onnx.proto3 (ModelProto, GraphProto, NodeProto, ValueInfoProto).
    """
    node = _text(1, "x") + _text(1, "x") + _text(2, "y") + _text(4, "Add")
    graph = _field(1, node) + _text(2, "doubling")
    graph += _field(11, _value("x")) + _field(12, _value("y"))
    opset = _number(2, 13)
    return _number(1, 8) + _field(7, graph) + _field(8, opset)


def _value(name: str) -> bytes:
    shape = _field(1, _number(1, 1))  # one dimension of one element
    tensor = _number(1, FLOAT) + _field(2, shape)
    return _text(1, name) + _field(2, _field(1, tensor))


def _number(field: int, value: int) -> bytes:
    assert value < 128  # one byte of a varint holds seven bits
    return bytes([field << 3 | VARINT, value])


def _field(field: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([field << 3 | BYTES, len(content)]) + content


def _text(field: int, text: str) -> bytes:
    return _field(field, text.encode())
