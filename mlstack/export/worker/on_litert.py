"""Open a model in LiteRT, on the CPU."""

from importlib import metadata
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from mlstack.errors import GateError
from mlstack.export.worker.session import cores, first_line


class Runner:
    """The one signature of a model, which takes one row a call."""

    def __init__(self, model: Path, device: str) -> None:
        assert device == "cpu"
        try:
            self._run = Interpreter(str(model), num_threads=cores()).get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise GateError(f"LiteRT cannot load the model: {first_line(error)}") from error
        self._input, self._dtype = self._only_input()
        self.tensors = None
        self.runtime = f"LiteRT {metadata.version('ai-edge-litert')} on the {device} (XNNPACK)"

    def _only_input(self) -> tuple[str, np.dtype]:
        details = self._run.get_input_details()
        if len(details) != 1 or not {"logits", "probabilities"} <= set(
            self._run.get_output_details()
        ):
            raise GateError("the model of LiteRT has other inputs or outputs than a package's")
        name, detail = next(iter(details.items()))
        return name, np.dtype(detail["dtype"])

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give logits and probabilities of a batch, row by row."""
        # The converter makes 32 bits of 64: few small devices have wider numbers.
        given = batch.astype(self._dtype, copy=False)
        rows = [self._row(given[i : i + 1]) for i in range(len(given))]
        return np.concatenate([r[0] for r in rows]), np.concatenate([r[1] for r in rows])

    def _row(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        try:
            answers = self._run(**{self._input: row})
        except (ValueError, RuntimeError) as error:
            raise GateError(f"LiteRT fails on a row: {first_line(error)}") from error
        return answers["logits"], answers["probabilities"]
