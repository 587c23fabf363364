"""Open a program in ExecuTorch, on the CPU."""

from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from executorch.runtime import Runtime, Verification

from mlstack.errors import GateError
from mlstack.export.worker.session import first_line


class Runner:
    """The method `forward` of a program, which takes one row a call."""

    def __init__(self, model: Path, device: str) -> None:
        assert device == "cpu"
        try:
            self._program = Runtime.get().load_program(
                model, verification=Verification.InternalConsistency
            )
            self._forward = self._program.load_method("forward")
        except RuntimeError as error:
            raise GateError(f"ExecuTorch cannot load the program: {first_line(error)}") from error
        if self._forward is None:
            raise GateError("ExecuTorch cannot load the program: it has no method `forward`")
        self.tensors = None
        self.runtime = f"ExecuTorch {metadata.version('executorch')} on the {device} (XNNPACK)"

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give logits and probabilities of a batch, row by row."""
        rows = [self._row(batch[i : i + 1]) for i in range(len(batch))]
        return np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows])

    def _row(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            logits, probabilities = self._forward.execute([torch.from_numpy(row)])
        except RuntimeError as error:
            raise GateError(f"ExecuTorch fails on a row: {first_line(error)}") from error
        # What it gives lies in memory that the next call uses again.
        return np.array(logits), np.array(probabilities)
