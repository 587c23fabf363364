"""Build a run once, then measure it with a defect in its graph; open a package with one."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from mlstack.config import load
from mlstack.errors import DataError, GateError, MlstackError
from mlstack.export import api, ask, gates
from mlstack.export.handover import MODEL_FP32, Built, Figures
from mlstack.export.order import Order, Wish, order


@dataclass(frozen=True)
class Bench:
    """A run whose graph is built and not yet measured."""

    order: Order
    built: Built
    work: Path

    def red(self, plant: Callable[[onnx.ModelProto], None]) -> list[str]:
        """Measure the graph with a defect and name the gates that are red."""
        return self.judged(self._planted(plant), "fp32")

    def measured(self, plant: Callable[[onnx.ModelProto], None]) -> Figures:
        """Measure the graph with a defect."""
        return value(ask.measure(self.order, self._planted(plant), "fp32", self.built, None))

    def _planted(self, plant: Callable[[onnx.ModelProto], None]) -> Path:
        model = onnx.load(self.work / MODEL_FP32)
        plant(model)
        planted = self.work / "planted.onnx"
        planted.write_bytes(model.SerializeToString())
        return planted

    def quantized_red(self, change: Callable[[np.ndarray], np.ndarray]) -> list[str]:
        """Convert to INT8 with other calibration data and name the gates that are red."""
        stored = self.built.calibration
        assert stored is not None
        path = Path(stored.file)
        kept = path.read_bytes()
        images = np.frombuffer(kept, stored.dtype).reshape(stored.shape)
        path.write_bytes(change(images).astype(stored.dtype).tobytes())
        (made,) = value(ask.quantize(self.order, self.work, self.built, ["int8-static"]))
        path.write_bytes(kept)
        if made.problem:
            return [made.problem]
        return self.judged(self.work / "int8-static.onnx", "int8-static")

    def judged(self, graph: Path, precision: str) -> list[str]:
        """Measure a graph and name the gates that are red, or the error that stopped it."""
        config = self.order.project.config
        standard = gates.Standard(config.gates, precision, config.export.max_diff, {})
        try:
            figures = value(ask.measure(self.order, graph, precision, self.built, None))
        except GateError as error:
            return [m.key or m.problem for m in error.mistakes] or [error.problem]
        except MlstackError as error:
            return [error.problem]
        return [g.name for g in gates.judge(figures, standard) if not g.passed]


def build(root: Path, work: Path) -> Bench:
    """Build the graph of the newest run of a project."""
    asked = order(load(root / "mlstack.yaml"), Wish(precision="int8"))
    return Bench(asked, value(ask.build(asked, work)), work)


def opened(package: Path) -> str:
    """Verify a package: the problem that was found, or nothing."""
    try:
        list(api.verify(Path("mlstack.yaml"), sets=(), wanted=str(package)))
    except MlstackError as error:
        assert error.hint or not isinstance(error, DataError), error.problem
        return error.problem
    return ""


def value(steps: Generator[Any, None, Any]) -> Any:
    """Run a generator to its end and give what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
