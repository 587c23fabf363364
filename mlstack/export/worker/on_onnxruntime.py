"""Open a graph in onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from mlstack.errors import GateError, MachineError
from mlstack.export.worker.session import cores, first_line
from mlstack.records import trusted
from mlstack.records.package import Tensor

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


class Runner:
    """A session of onnxruntime."""

    def __init__(self, model: Path, device: str) -> None:
        options = quiet(onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
        provider = PROVIDERS[device]
        if provider not in onnxruntime.get_available_providers():
            raise MachineError(f"onnxruntime cannot use the {device} here", hint=ON_CPU)
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=[provider])
        except REFUSALS as error:
            raise GateError(f"onnxruntime cannot load the graph: {first_line(error)}") from error
        if self._session.get_providers()[0] != provider:
            raise MachineError(f"onnxruntime fell back from the {device} to the CPU", hint=ON_CPU)
        given, answered = self._session.get_inputs(), self._session.get_outputs()
        self._input = given[0].name if given else ""
        self.tensors = _described(given), _described(answered)
        self.runtime = f"onnxruntime {onnxruntime.__version__} on the {device}"

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give logits and probabilities of a batch."""
        try:
            logits, probabilities = self._session.run(
                ["logits", "probabilities"], {self._input: batch}
            )
        except REFUSALS as error:
            raise GateError(
                f"the graph fails on a batch of {len(batch)}: {first_line(error)}"
            ) from error
        return logits, probabilities


def _described(nodes: list[Any]) -> list[Tensor]:
    return [trusted.tensor(one.name, one.type, one.shape) for one in nodes]


def quiet(level: onnxruntime.GraphOptimizationLevel) -> onnxruntime.SessionOptions:
    """Give options for threads that sleep while they wait, on the cores of this process."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = level
    options.intra_op_num_threads = cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
