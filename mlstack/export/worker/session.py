"""A graph in onnxruntime, inside a process with limits."""

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from mlstack.errors import GateError, MachineError

BASE_BYTES = 8 << 30
PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider"}
ON_CPU = "see `mlstack doctor`, or set gates.latency.device to cpu"
REFUSALS = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NotImplemented,
    state.RuntimeException,
    state.NoSuchFile,
)


def limit(model: Path, seconds: int, *, extra_bytes: int | None = 0) -> None:
    """End this process when it takes too long, or asks for far more memory than the graph needs.

    A file of 65 bytes can ask for 32 GiB, and a wrong conversion can hang or crash the runtime.

    Args:
        model: the graph.
        seconds: until the process is ended.
        extra_bytes: memory for other things than the graph; None for no limit, as CUDA needs
            (it maps more addresses than any limit would allow).
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    if extra_bytes is None:
        return
    wanted = BASE_BYTES + 20 * model.stat().st_size + extra_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))


class Session:
    """One graph, ready to answer."""

    def __init__(self, model: Path, *, device: str = "cpu") -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = cores()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        provider = PROVIDERS[device]
        if provider not in onnxruntime.get_available_providers():
            raise MachineError(f"onnxruntime cannot use the {device} here", hint=ON_CPU)
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=[provider])
        except REFUSALS as error:
            raise GateError(f"onnxruntime cannot load the graph: {_first_line(error)}") from error
        if self._session.get_providers()[0] != provider:
            raise MachineError(f"onnxruntime fell back from the {device} to the CPU", hint=ON_CPU)
        self.input = self._session.get_inputs()[0].name

    def answer(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give logits and probabilities, both (batch, classes) in FP32.

        Raises:
            GateError: the runtime refused, or the graph has other outputs.
        """
        try:
            logits, probabilities = self._session.run(
                ["logits", "probabilities"], {self.input: np.ascontiguousarray(batch)}
            )
        except REFUSALS as error:
            raise GateError(
                f"the graph fails on a batch of {len(batch)}: {_first_line(error)}"
            ) from error
        return logits, probabilities

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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
