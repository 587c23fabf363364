"""Ask the workers of `export`: each gets a request in a file and answers with records."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from mlstack import files
from mlstack.errors import DataError, GateError, StepError
from mlstack.export import gates, packages
from mlstack.export.handover import (
    BuildRequest,
    Built,
    Converted,
    ConvertRequest,
    Figures,
    MeasureRequest,
    Quantized,
    QuantizeRequest,
    Raced,
    RaceRequest,
    Replayed,
    ReplayRequest,
    Rival,
    Said,
)
from mlstack.export.order import Order
from mlstack.launch.forkserver import THREADLESS
from mlstack.launch.worker import run_worker
from mlstack.records import base, proven, trusted
from mlstack.records.base import Record
from mlstack.records.dataset import EXAMPLES, LABELS
from mlstack.records.edge import EdgeModel
from mlstack.records.graph_safety import check_graph
from mlstack.records.layout import Layout
from mlstack.records.package import MODEL

CALIBRATION = 256
TIMED = (1, 8, 32)
# What another processor's arithmetic may change in a probability of a golden example.
TOLERANCE = {"fp32": 1e-3, "fp16": 5e-3}
TOLERANCE_INT8 = 2e-2
SAID: msgspec.json.Decoder[Said] = msgspec.json.Decoder(Said)

Answer = TypeVar("Answer", bound=Record)


def build(order: Order, work: Path) -> Generator[Record, None, Built]:
    """Have the worker with torch write the graph and what it is measured against."""
    return (yield from _ask("build", _build(order, work), order.log, Built))


def _build(order: Order, work: Path) -> BuildRequest:
    return BuildRequest(
        root=str(order.project.root),
        run_folder=str(order.folder),
        checkpoint=str(order.checkpoint),
        model=order.model,
        folder=str(work),
        calibration=0 if order.precision in ("fp32", "fp16") else CALIBRATION,
    )


def quantize(
    order: Order, work: Path, built: Built, kinds: list[str]
) -> Generator[Record, None, list[Quantized]]:
    """Have smaller graphs made, all in one process; one that ends it is skipped.

    A converter that crashes takes the others' time only: they go on in another process.
    """
    done: list[Quantized] = []
    while len(done) < len(kinds):
        request = QuantizeRequest(folder=str(work), kinds=kinds[len(done) :], built=built)
        try:
            for said in _said("quantize", request, order.log):
                if isinstance(said, Quantized):
                    done.append(said)
                else:
                    yield said
        except StepError as error:
            if _was_reported(error):
                raise
            done.append(Quantized(precision=kinds[len(done)], problem=error.problem))
    return done


@dataclass(frozen=True)
class Wanted:
    """Another format: the worker that makes it, and of which graphs, by precision."""

    worker: str
    graphs: dict[str, Path]


def convert(
    order: Order, folder: Path, built: Built, wanted: Wanted
) -> Generator[Record, None, list[Converted]]:
    """Have another format made of graphs; one that dies leaves a problem each."""
    done: list[Converted] = []
    request = ConvertRequest(
        folder=str(folder),
        graphs={precision: str(path) for precision, path in wanted.graphs.items()},
        build=_build(order, folder),
        built=built,
        python=order.converter,
    )
    try:
        for said in _said(wanted.worker, request, order.log):
            if isinstance(said, Converted):
                done.append(said)
            else:
                yield said
    except StepError as error:
        if _was_reported(error):
            raise
        left = wanted.graphs.keys() - {one.precision for one in done}
        done += [Converted(precision=p, files=[], problem=error.problem) for p in sorted(left)]
    return done


def measure(
    order: Order, graph: Path, precision: str, built: Built, baseline: Figures | None
) -> Generator[Record, None, Figures]:
    """Have the worker without torch measure a graph; one that crashes it is a red gate."""
    config = order.project.config
    labels = order.project.root / order.spec.dataset.source / LABELS
    request = MeasureRequest(
        folder=str(graph.parent),
        model=graph.name,
        precision=precision,
        baseline=baseline.answers if baseline else None,
        built=built,
        run=order.spec.id,
        root=str(order.project.root),
        examples=str(order.folder / EXAMPLES),
        labels=str(labels) if labels.is_file() else None,
        columns=sorted({s.column for s in config.gates.slices} - {"class"}),
        expected=order.expected,
        live=order.live,
        tolerance=TOLERANCE.get(precision, TOLERANCE_INT8),
    )
    if graph.suffix == ".onnx":
        check_graph(graph)
    with _red_if_it_dies(order.model):
        try:
            return (yield from _ask("measure", request, order.log, Figures))
        except StepError as error:
            if order.live is None or _was_reported(error):
                raise
            problem = error.problem
        # One of two graphs did that; without the live one, the new one is alone.
        alone = msgspec.structs.replace(request, live=None)
        figures = yield from _ask("measure", alone, order.log, Figures)
        return msgspec.structs.replace(figures, live_problem=_broken(order.live.number, problem))


def _broken(number: int, problem: str) -> str:
    return (
        f"package {number} is live and broken: {problem}; make another one live with "
        "`mlstack serve promote N`"
    )


def rival(order: Order, work: Path) -> Generator[Record, None, Rival | None]:
    """Describe the live package; one that nobody has opened here is opened in its own process.

    It is measured in one process with a new graph, which must not be blamed for what it does.

    Raises:
        DataError: `live.json` names a package that is not there.
    """
    layout = Layout(order.project.root)
    package = packages.live(layout, order.model)
    if package is None:
        return None
    try:
        trusted.check(package)
        if not proven.is_proven(layout.proven, package):
            check_graph(package / MODEL)
            trusted.golden(package)
            replayed = yield from replay(package, work)
            if not replayed.differing:
                proven.keep(layout.proven, package)
        return packages.rival(layout, package, order.spec)
    except (DataError, GateError, StepError) as error:
        return Rival(
            number=int(package.name),
            model=str(package / MODEL),
            classes=[],
            preprocess=None,
            problem=_broken(int(package.name), error.problem),
        )


def race(
    order: Order, work: Path, models: list[str], built: Built, *, device: str = ""
) -> Generator[Record, None, Raced]:
    """Have graphs timed, in turns in one process, on the device of gates.latency or another one.

    Raises:
        GateError: one of them ended the process.
    """
    latency = order.project.config.gates.latency
    request = RaceRequest(
        folder=str(work),
        models=models,
        inputs=built.val.inputs,
        batches=sorted({*TIMED, latency.batch} if latency else TIMED),
        device=device or (latency.device if latency else "cpu"),
    )
    with _red_if_it_dies(order.model):
        return (yield from _ask("race", request, order.log, Raced))


def replay(
    package: Path, work: Path, edge: EdgeModel | None = None
) -> Generator[Record, None, Replayed]:
    """Have a package's golden examples answered again, by its graph or by another format.

    Raises:
        GateError: the graph ended the process that loaded it.
    """
    request = ReplayRequest(package=str(package.resolve()), work=str(work))
    if edge is not None:
        request = msgspec.structs.replace(request, model=edge.files[0], golden=edge.golden)
    try:
        return (yield from _ask("replay", request, work / "replay.log", Replayed))
    except StepError as error:
        if _was_reported(error):
            error.hint = "type it again with --debug"  # the log goes with its folder
            raise
        raise GateError(
            f"the graph does not run: {error.problem}", hint="export the run again"
        ) from error


def _ask(
    worker: str, request: Record, log: Path, wanted: type[Answer]
) -> Generator[Record, None, Answer]:
    """Start a worker, pass on its progress, and give its answer."""
    answer: Answer | None = None
    for said in _said(worker, request, log):
        if isinstance(said, wanted):
            answer = said
        else:
            yield said
    if answer is None:
        raise StepError(f"the worker `{worker}` ended without an answer", hint=f"see {log}")
    return answer


def _said(worker: str, request: Record, log: Path) -> Iterator[Said]:
    """Start a worker and yield what it says; keep the traceback of one that failed."""
    work = Path(getattr(request, "folder", "") or getattr(request, "work", ""))
    paper = work / f"{worker}.json"
    base.write(paper, request)
    module = f"mlstack.export.worker.{worker}"
    # numpy's BLAS starts threads that cost as much as all other imports. Only the user's own code
    # may have work for them.
    variables = {} if worker == "build" else THREADLESS
    try:
        yield from run_worker(module, [str(paper)], SAID.decode, log, variables)
    except StepError as error:
        if _was_reported(error):
            files.append_line(log, "\n".join(error.__notes__).encode())
        error.hint = error.hint or f"see {log}"
        raise


@contextmanager
def _red_if_it_dies(model: str) -> Iterator[None]:
    """Make a red gate of a graph that ends its process."""
    try:
        yield
    except StepError as error:
        if not _was_reported(error):
            gates.refuse(gates.crashed(error.problem), model=model)
        raise


def _was_reported(error: StepError) -> bool:
    """Tell an error that a worker reported (its traceback is a note) from a worker that died."""
    return hasattr(error, "__notes__")
