"""A graph in whatever runs it, inside a process with limits."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from mlstack.errors import GateError
from mlstack.launch import limits
from mlstack.records.package import Tensor


class Runner(Protocol):
    """A graph that a runtime has opened."""

    runtime: str  # its name and version, and where it computes
    tensors: tuple[list[Tensor], list[Tensor]] | None  # inputs and outputs, where it can tell

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give logits and probabilities, both (batch, classes) in FP32.

        Raises:
            GateError: the runtime refused, or the graph has other outputs.
        """


# What a file ends with -> the module whose `Runner` opens it; only that runtime is imported.
RUNNERS = {
    ".onnx": "mlstack.export.worker.on_onnxruntime",
    ".xml": "mlstack.export.worker.on_openvino",
    ".pte": "mlstack.export.worker.on_executorch",
    ".tflite": "mlstack.export.worker.on_litert",
}


def limit(model: Path, seconds: int, *, extra_bytes: int | None = 0) -> None:
    """End this process when it takes too long, or asks for far more memory than the graph needs.

    Args:
        model: the graph.
        seconds: until the process is ended.
        extra_bytes: memory for other things than the graph; None for no limit, as CUDA needs.
    """
    limits.limit(size_bytes(model), seconds, extra_bytes=extra_bytes)


class Session:
    """One graph, ready to answer."""

    def __init__(self, model: Path, *, device: str = "cpu") -> None:
        if model.suffix not in RUNNERS:
            raise GateError(f"nothing here runs a file that ends in `{model.suffix}`")
        opened = importlib.import_module(RUNNERS[model.suffix]).Runner(model, device)
        self._runner = cast("Runner", opened)

    @property
    def runtime(self) -> str:
        """Say what runs the graph, and where."""
        return self._runner.runtime

    @property
    def tensors(self) -> tuple[list[Tensor], list[Tensor]] | None:
        """Give inputs and outputs as the graph has them; None where the runtime cannot tell."""
        return self._runner.tensors

    def answer(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give logits and probabilities, both (batch, classes) in FP32.

        Raises:
            GateError: the runtime refused, or the graph has other outputs.
        """
        return self._runner.run(np.ascontiguousarray(batch))

    def answer_data(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Answer real inputs.

        Raises:
            GateError: the answer is not finite.
        """
        logits, probabilities = self.answer(batch)
        if not (np.isfinite(logits).all() and np.isfinite(probabilities).all()):
            raise GateError("the graph answers real inputs with numbers that are not finite")
        return logits, probabilities

    def answers(self, inputs: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Answer all inputs in batches of `size`; the last one may be smaller."""
        pairs = [self.answer_data(batch) for batch in batches(inputs, size)]
        return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])


def batches(inputs: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut inputs into batches of `size`, the last one with what is left."""
    for start in range(0, len(inputs), size):
        yield inputs[start : start + size]


def cores() -> int:
    """Count the cores that this process may use; onnxruntime would count those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def size_bytes(model: Path) -> int:
    """Add up the files of a graph: OpenVINO keeps the weights beside it."""
    beside = [model.with_suffix(".bin")] if model.suffix == ".xml" else []
    return sum(path.stat().st_size for path in [model, *beside])


def first_line(error: Exception) -> str:
    """Give what fits into a sentence of what a runtime said."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
