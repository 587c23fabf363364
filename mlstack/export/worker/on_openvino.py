"""Open a graph in OpenVINO, on the CPU and in FP32."""

from pathlib import Path

import numpy as np

from mlstack.errors import GateError
from mlstack.export.worker import silent
from mlstack.export.worker.session import cores, first_line

openvino = silent.openvino()
# OpenVINO's own default is BF16 where the processor has it: 0.3 % of the output's scale off.
SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


class Runner:
    """One request of a compiled model."""

    def __init__(self, model: Path, device: str) -> None:
        assert device == "cpu"
        settings = SETTINGS | {"INFERENCE_NUM_THREADS": cores()}
        try:
            compiled = openvino.Core().compile_model(str(model), "CPU", settings)
        except RuntimeError as error:
            raise GateError(f"OpenVINO cannot load the graph: {first_line(error)}") from error
        kind = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self._request = compiled.create_infer_request()
        version = openvino.get_version().split("-")[0]
        self.tensors = None
        self.runtime = f"OpenVINO {version} on the {device}, in {kind}"

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give logits and probabilities of a batch."""
        try:
            self._request.infer({0: batch})
        except RuntimeError as error:
            raise GateError(
                f"OpenVINO fails on a batch of {len(batch)}: {first_line(error)}"
            ) from error
        logits, probabilities = (
            np.array(self._request.get_tensor(name).data) for name in ("logits", "probabilities")
        )
        return logits, probabilities
