"""A model package, loaded: opened, timed, and proven on its golden examples before it answers."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mlstack.errors import DataError, GateError
from mlstack.inputs import preprocess, tables
from mlstack.inputs.preprocess import RowSpec, Spec
from mlstack.inputs.tables import Row
from mlstack.records.base import read
from mlstack.records.package import MODEL, SIDE, Golden, Signature, verify_files
from mlstack.records.server import BatchingSpec
from mlstack.serve.worker.batcher import Plan
from mlstack.serve.worker.lookup import Lookup
from mlstack.serve.worker.runner import Runner

INLINE_S = 200e-6  # handing a batch to a thread and back costs about half of this
SLOW_S = 0.25  # larger batches are not tried once one takes this long
SMALL_BYTES = 4 << 20
SHORT_S = 1e-3
REPEATS = 3  # the fastest counts: the machine may be doing something else
GAIN = 1.05  # a larger batch must give this much more throughput


@dataclass
class Model:
    """One package, ready to answer."""

    name: str
    number: int
    signature: Signature
    runner: Runner
    spec: Spec | None
    plan: Plan
    timings: dict[int, float] = field(default_factory=dict)  # rows -> seconds of one call
    example: Row | None = None  # of a table: a row that can be asked
    lookup: Lookup | None = None  # of a table: where a row's features are found

    def probabilities(self, outputs: list[np.ndarray]) -> np.ndarray | None:
        """Find the class probabilities among the outputs; shape (rows, classes)."""
        for tensor, output in zip(self.signature.outputs, outputs, strict=True):
            if tensor.name == "probabilities" and output.ndim == 2:
                return output
        return None


def load(package: Path, name: str, device: str, batching: BatchingSpec) -> Model:
    """Verify a package, open it, time it and replay its golden examples.

    Raises:
        DataError: the package is not whole, or the graph is not what its signature says.
        GateError: a golden example is answered otherwise than when it was packed.
        MachineError: the device cannot be used.
    """
    manifest = verify_files(package)
    signature = read(package / SIDE / "signature.json", Signature)
    runner, timings = _open(package / MODEL, device, batching.max_size)
    _same_tensors(package, signature, runner)
    spec = preprocess.from_json(signature.preprocess) if signature.preprocess else None
    model = Model(
        name=name,
        number=manifest.number,
        signature=signature,
        runner=runner,
        spec=spec,
        plan=plan(runner, timings, batching),
        timings=timings,
    )
    replay(package, model)
    return model


def load_bare(graph: Path, name: str, device: str, batching: BatchingSpec) -> Model:
    """Open an .onnx file that has no package around it; it takes and gives tensors only."""
    runner, timings = _open(graph, device, batching.max_size)
    signature = Signature(task="tensors", inputs=runner.inputs, outputs=runner.outputs, classes=[])
    limits = plan(runner, timings, batching)
    return Model(name, 0, signature, runner, None, limits, timings)


def _open(graph: Path, device: str, largest: int) -> tuple[Runner, dict[int, float]]:
    """Open and time a graph, with one thread if it is done before others have woken up."""
    is_small = graph.is_file() and graph.stat().st_size < SMALL_BYTES
    runner = Runner(graph, device, threads=1 if is_small else 0)
    timings = measure(runner, largest)
    if is_small and not runner.on_gpu and timings.get(1, SHORT_S) >= SHORT_S:
        runner = Runner(graph, device)
        timings = measure(runner, largest)
    return runner, timings


def measure(runner: Runner, largest: int) -> dict[int, float]:
    """Time one call at 1, 2, 4 ... rows, which also warms the session for each size."""
    timings: dict[int, float] = {}
    rows = 1
    while rows <= largest:
        arrays = runner.zeros(rows)
        if arrays is None:
            break
        runner.run(arrays)
        timings[rows] = min(_seconds(runner, arrays) for _ in range(REPEATS))
        if timings[rows] > SLOW_S:
            break
        rows = largest if rows < largest < 2 * rows else 2 * rows
    return timings


def plan(runner: Runner, timings: dict[int, float], batching: BatchingSpec) -> Plan:
    """Choose the batch sizes from the timings."""
    limit = _best_size(timings) if batching.adaptive and timings else batching.max_size
    cheap = [rows for rows, seconds in timings.items() if seconds <= INLINE_S]
    # A GPU prepares itself anew for every shape it has not seen: only the timed sizes are run.
    buckets = tuple(rows for rows in timings if rows <= limit) if runner.on_gpu else ()
    return Plan(
        max_rows=limit,
        max_queue=batching.max_queue,
        delay_s=batching.max_delay_ms / 1000,
        inline_rows=0 if runner.on_gpu else max(cheap, default=0),
        buckets=buckets,
    )


def replay(package: Path, model: Model) -> None:
    """Answer the golden examples and compare.

    Raises:
        GateError: an answer differs by more than the tolerance.
    """
    golden = read(package / SIDE / "golden.json", Golden)
    if model.spec is None or not golden.examples:
        return
    folder = package / SIDE / "golden"
    if isinstance(model.spec, RowSpec):
        model.example = tables.read_row(folder / golden.examples[0].file)
    batch = np.stack([preprocess.load(folder / e.file, model.spec) for e in golden.examples])
    rows = model.plan.max_rows
    pieces = [model.runner.run([batch[i : i + rows]]) for i in range(0, len(batch), rows)]
    got = [p for outputs in pieces if (p := model.probabilities(outputs)) is not None]
    if not got:
        return
    for example, answer in zip(golden.examples, np.concatenate(got), strict=True):
        difference = float(np.abs(answer - np.asarray(example.probabilities)).max())
        if not difference <= golden.tolerance:
            raise GateError(
                f"`{package}` does not answer its golden example `{example.file}` as when it was "
                f"packed (off by {difference:.2g}, allowed {golden.tolerance:.2g})",
                hint="export the run on this machine, or serve another package",
            )


def _seconds(runner: Runner, arrays: list[np.ndarray]) -> float:
    started = time.perf_counter()
    runner.run(arrays)
    return time.perf_counter() - started


def _best_size(timings: dict[int, float]) -> int:
    """Take the smallest size after which throughput no longer grows."""
    sizes = sorted(timings)
    best = sizes[0]
    for rows in sizes[1:]:
        if rows / timings[rows] > GAIN * best / timings[best]:
            best = rows
    return best


def _same_tensors(package: Path, signature: Signature, runner: Runner) -> None:
    for kind, said, real in (
        ("input", signature.inputs, runner.inputs),
        ("output", signature.outputs, runner.outputs),
    ):
        if [(t.name, t.datatype) for t in said] != [(t.name, t.datatype) for t in real]:
            names = ", ".join(f"{t.name} {t.datatype}" for t in real)
            raise DataError(
                f"the graph's {kind}s are {names}; its signature says otherwise",
                hint="export the run again",
                where=str(package),
            )
