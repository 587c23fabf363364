"""A model package, loaded: opened, timed, and proven on its golden examples before it answers."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlstack.errors import GateError
from mlstack.inputs import preprocess, tables, texts
from mlstack.inputs.preprocess import RowSpec, Spec
from mlstack.inputs.tables import Row
from mlstack.inputs.texts import TextSpec
from mlstack.records import trusted
from mlstack.records.base import read
from mlstack.records.graph_safety import check_graph
from mlstack.records.package import MANIFEST, MODEL, SIDE, Signature
from mlstack.records.server import BatchingSpec
from mlstack.serve.worker import cuda
from mlstack.serve.worker.engine import ONE, Engine, Gpus, open_engine
from mlstack.serve.worker.lookup import Lookup
from mlstack.serve.worker.runner import Runner
from mlstack.serve.worker.said import log


@dataclass
class Model:
    """One package, ready to answer."""

    name: str
    number: int
    signature: Signature
    engine: Engine
    spec: Spec | None
    example: Row | None = None  # of a table: a row that can be asked
    lookup: Lookup | None = None  # of a table: where a row's features are found

    @property
    def shortens(self) -> bool:
        """Tell whether texts are answered the same without what only fills them up.

        A GPU prepares itself anew for every shape that it has not seen.
        """
        return isinstance(self.spec, TextSpec) and self.spec.shortens and not self.runner.on_gpu

    @property
    def runner(self) -> Runner:
        """Give the session that has all cores, or the device."""
        return self.engine.runner

    def probabilities(self, outputs: list[np.ndarray]) -> np.ndarray | None:
        """Find the class probabilities among the outputs; shape (rows, classes)."""
        for tensor, output in zip(self.signature.outputs, outputs, strict=True):
            if tensor.name == "probabilities" and output.ndim == 2:
                return output
        return None


def load(package: Path, name: str, device: str, batching: BatchingSpec, gpus: Gpus = ONE) -> Model:
    """Check a package as `export verify` does, open it, time it and replay its golden examples.

    Raises:
        DataError: the package is not whole or not safe to open, or the graph is not what its
            signature says.
        GateError: a golden example is answered otherwise than when it was packed.
        MachineError: the device cannot be used.
    """
    manifest = trusted.check(package)
    check_graph(package / MODEL)
    signature = read(package / SIDE / "signature.json", Signature)
    spec = preprocess.from_json(signature.preprocess) if signature.preprocess else None
    if spec is not None:
        trusted.check_input(package, signature, preprocess.datatype(spec), preprocess.shape(spec))
    engine = open_engine(package / MODEL, device, batching, gpus)
    trusted.check_tensors(package, signature, engine.runner.inputs, engine.runner.outputs)
    model = Model(
        name=name,
        number=manifest.number,
        signature=signature,
        engine=engine,
        spec=spec,
    )
    try:
        replay(package, model)
    except GateError as error:
        if engine.runner.provider != cuda.TENSORRT:
            raise
        log.warning("TensorRT is not used, CUDA is: %s", error.problem)
        return load(package, name, device, batching, replace(gpus, engines=None))
    return model


def package_of(path: Path) -> Path | None:
    """Find the package that a path means; None for an .onnx file outside of one."""
    folder = path.parent if path.suffix == ".onnx" else path
    is_packed = (folder / SIDE / MANIFEST).is_file() or path.suffix != ".onnx"
    return folder if is_packed else None


def load_bare(
    graph: Path, name: str, device: str, batching: BatchingSpec, gpus: Gpus = ONE
) -> Model:
    """Open an .onnx file that has no package around it; it takes and gives tensors only.

    Raises:
        DataError: the graph is not safe to open, or cannot be run.
        MachineError: the device cannot be used.
    """
    check_graph(graph)
    engine = open_engine(graph, device, batching, gpus)
    inputs, outputs = engine.runner.inputs, engine.runner.outputs
    signature = Signature(task="tensors", inputs=inputs, outputs=outputs, classes=[])
    return Model(name, 0, signature, engine, None)


def replay(package: Path, model: Model) -> None:
    """Answer the golden examples and compare.

    Raises:
        GateError: an answer differs by more than the tolerance.
    """
    golden = trusted.golden(package, least=0)
    if model.spec is None or not golden.examples:
        return
    folder = package / SIDE / "golden"
    if isinstance(model.spec, RowSpec):
        model.example = tables.read_row(folder / golden.examples[0].file)
    batch = np.stack([preprocess.load(folder / e.file, model.spec) for e in golden.examples])
    if model.shortens:
        batch = texts.shortened(batch)
    answers = model.probabilities(model.engine.run_all([batch]))
    if answers is None:
        return
    classes = model.signature.classes
    trusted.check_answered(package, answers.shape, (len(golden.examples), len(classes)))
    for example, answer in zip(golden.examples, answers, strict=True):
        difference = float(np.abs(answer - np.asarray(example.probabilities)).max())
        if not difference <= golden.tolerance:
            raise GateError(
                f"`{package}` does not answer its golden example `{example.file}` as when it was "
                f"packed (off by {difference:.2g}, allowed {golden.tolerance:.2g})",
                hint="export the run on this machine, or serve another package",
            )
