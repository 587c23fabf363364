"""Predict files and time a package without a server, through the same code as with one."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from mlstack.errors import DataError
from mlstack.inputs import preprocess, rowfiles, tables, texts
from mlstack.inputs.preprocess import RowSpec
from mlstack.inputs.tables import Row, TableSpec
from mlstack.inputs.texts import TextSpec
from mlstack.plurals import counted, plural
from mlstack.records.base import Record
from mlstack.records.package import SIDE
from mlstack.records.server import BatchingSpec
from mlstack.records.worker import WorkerProgress
from mlstack.serve.results import Benched, Load, Predicted, Timing
from mlstack.serve.worker.engine import INLINE_S, ONE, Gpus, bind_where_faster
from mlstack.serve.worker.lookup import filled, open_lookup
from mlstack.serve.worker.model import Model, load
from mlstack.serve.worker.rehearsal import rehearse

BATCH = 32
SECONDS_PER_SIZE = 0.5
ENOUGH = 0.9  # of the largest throughput


@dataclass(frozen=True)
class _Given:
    """One input that is to be answered."""

    name: str
    row: int | None  # of a file of many
    array: np.ndarray


def predict(package: Path, device: str, names: list[str]) -> Iterator[Record]:
    """Answer files of an image, of one row as JSON or of many rows; one record for each.

    Raises:
        DataError: the package takes tensors only, or a file is not what it takes.
    """
    model = _open(package, device)
    if model.spec is None or not model.signature.classes:
        raise DataError(
            f"`{package}` takes tensors, not files",
            hint="start `mlstack serve` and send JSON with `inputs`",
        )
    model.lookup = open_lookup(package.resolve().parents[2], model.signature)
    given = _given(names, model)
    while some := list(islice(given, BATCH)):
        probabilities = model.probabilities(model.runner.run([np.stack([e.array for e in some])]))
        if probabilities is None:
            raise DataError(f"`{package}` gives no `probabilities`", hint="export the run again")
        for one, shares in zip(some, probabilities, strict=True):
            yield _predicted(one, shares, model.signature.classes)


def bench(package: Path, largest: int, device: str, gpus: Gpus) -> Iterator[Record]:
    """Time calls of 1, 2, 4 ... rows, then say what to set."""
    model = _open(package, device, largest, gpus)
    example = sample(package, model)
    most = 1 if model.runner.is_single else largest
    sizes = [1 << power for power in range(12) if 1 << power <= most]
    timings = []
    for done, rows in enumerate(sizes):
        yield WorkerProgress(text=f"batches of {rows}", done=done, total=len(sizes))
        timings.append(_time(model, example, rows))
    best = timings[0]
    for timing in timings[1:]:
        if timing.rows_per_s > 1.05 * best.rows_per_s:
            best = timing
    loads = []
    yield WorkerProgress(text="a whole server", done=len(sizes), total=len(sizes))
    for load_ in rehearse(package, device, model, example):
        text = f"{load_.connections} connections, {load_.payload}"
        yield WorkerProgress(text=text, done=len(sizes), total=len(sizes))
        loads.append(load_)
    yield Benched(
        model=model.name,
        version=model.number,
        provider=model.runner.provider,
        timings=timings,
        best_size=best.rows,
        decode_ms=_decode_ms(package, model),
        example="row" if isinstance(model.spec, RowSpec) else "image",
        advice=_advice(best, timings[0]),
        loads=loads,
        load_advice=_load_advice(loads),
        rows_per_s_by_device=_devices(package, device, model, timings),
    )


def _load_advice(loads: list[Load]) -> str:
    """Say how many connections are enough, and which payload costs least."""
    by_payload: dict[str, list[Load]] = {}
    for load_ in loads:
        by_payload.setdefault(load_.payload, []).append(load_)
    most = {name: max(one.requests_per_s for one in some) for name, some in by_payload.items()}
    name = max(most, key=lambda key: most[key])
    enough = next(one for one in by_payload[name] if one.requests_per_s >= ENOUGH * most[name])
    text = (
        f"{counted(enough.connections, 'connection')} sending {name} "
        f"{plural(enough.connections, 'gets', 'get')} {enough.requests_per_s:,.0f} answers "
        f"a second, 99 of 100 within {enough.p99_ms:.1f} ms; more only wait longer"
    )
    others = [f"{other} {most[name] / most[other]:.1f}" for other in most if other != name]
    return f"{text}; {name} is faster than others by: {', '.join(others)}" if others else text


def _devices(package: Path, device: str, model: Model, timings: list[Timing]) -> dict[str, float]:
    """Time the CPU as well where a GPU was taken and nobody has chosen; each at its best size."""
    mine = "gpu" if model.runner.on_gpu else "cpu"
    found = {mine: max(timing.rows_per_s for timing in timings)}
    if device == "auto" and model.runner.on_gpu:
        other = _open(package, "cpu")
        example = sample(package, other)
        timed = [_time(other, example, timing.rows) for timing in timings]
        found["cpu"] = max(timing.rows_per_s for timing in timed)
    return found


def _open(package: Path, device: str, largest: int = 1, gpus: Gpus = ONE) -> Model:
    """Open a package for calls of at most so many rows; it is timed here, if at all."""
    # TensorRT answers no call that its engine was not built for
    most = largest if gpus.engines is not None else 1
    return load(package, package.parent.name, device, BatchingSpec(max_size=most), gpus)


def _given(names: list[str], model: Model) -> Iterator[_Given]:
    """Read what is to be answered, file by file."""
    spec = model.spec
    assert spec is not None
    for name in names:
        path = Path(name)
        if isinstance(spec, RowSpec) and rowfiles.is_one(path):
            encoded = _encoded(path, _rows(path, spec), model)
            yield from (_Given(name, row, array) for row, array in enumerate(encoded))
        elif isinstance(spec, TextSpec) and rowfiles.is_text(path, spec.texts, ()):
            row_of_text = rowfiles.read_text(path, spec.column)
            yield _Given(name, None, _encoded(path, [row_of_text], model)[0])
        elif isinstance(spec, RowSpec) and model.lookup is not None:
            yield _Given(name, None, _encoded(path, [tables.read_row(path)], model)[0])
        else:
            yield _Given(name, None, preprocess.load(name, spec))


def _rows(path: Path, spec: RowSpec) -> list[Row]:
    numbers = spec.numbers if isinstance(spec, TableSpec) else ()
    return rowfiles.read(path, spec.texts, numbers)


def _encoded(path: Path, rows: list[Row], model: Model) -> np.ndarray:
    """Encode rows; their features are looked up as the server does."""
    assert isinstance(model.spec, RowSpec)
    try:
        full = rows if model.lookup is None else filled(model.lookup, rows)
        return model.spec.encode(full)
    except DataError as error:
        raise DataError(f"{path}: {error.problem}", hint=error.hint) from error


def _predicted(given: _Given, shares: np.ndarray, classes: list[str]) -> Predicted:
    by_class = dict(zip(classes, np.round(shares.astype(np.float64), 6).tolist(), strict=True))
    best = classes[int(shares.argmax())]
    return Predicted(
        file=given.name,
        row=given.row,
        prediction=best,
        confidence=by_class[best],
        probabilities=by_class,
    )


def sample(package: Path, model: Model) -> list[np.ndarray]:
    """Give one row of every input: zeros, or a golden example where only one knows the sizes.

    Raises:
        DataError: sizes are free, and there is no example.
    """
    if (zeros := model.runner.zeros(1)) is not None:
        return zeros
    for file in sorted((package / SIDE / "golden").glob("*")):
        if model.spec is not None:
            return [preprocess.load(file, model.spec)[None]]
        if file.suffix == ".npy":
            return [np.load(file)[None]]
    raise DataError(
        f"`{package}` leaves sizes of its input open, and has no golden example that shows them",
        hint="export the run again",
    )


def _time(model: Model, example: list[np.ndarray], rows: int) -> Timing:
    arrays = [np.repeat(array, rows, axis=0) for array in example]
    if model.shortens:
        arrays = [texts.shortened(array) for array in arrays]
    model.runner.run(arrays)
    if model.runner.on_gpu:
        bind_where_faster(model.runner, rows)
    seconds: list[float] = []
    stop = time.perf_counter() + SECONDS_PER_SIZE
    while len(seconds) < 5 or (time.perf_counter() < stop and len(seconds) < 2000):
        started = time.perf_counter()
        model.runner.run(arrays)
        seconds.append(time.perf_counter() - started)
    p50, p99 = np.percentile(seconds, [50, 99])
    return Timing(
        rows=rows,
        p50_ms=round(float(p50) * 1e3, 4),
        p99_ms=round(float(p99) * 1e3, 4),
        rows_per_s=round(rows / float(p50), 1),
    )


def _decode_ms(package: Path, model: Model) -> float | None:
    """Time the decoding of the golden examples, usually a fair sample of what will come."""
    samples = sorted((package / "mlstack" / "golden").glob("*"))
    if model.spec is None or not samples:
        return None
    contents = [sample.read_bytes() for sample in samples]
    started = time.perf_counter()
    for content in contents:
        preprocess.decode(content, model.spec)
    return round((time.perf_counter() - started) * 1e3 / len(contents), 4)


def _advice(best: Timing, single: Timing) -> str:
    if best.rows == 1:
        return "larger batches bring nothing: `serve.batching.max_size: 1`"
    gain = best.rows_per_s / single.rows_per_s
    where = "in the event loop" if best.p50_ms <= INLINE_S * 1e3 else "in a thread beside it"
    return (
        f"`serve.batching.max_size: {best.rows}` gives {gain:.1f} times the throughput of single "
        f"rows at {best.p50_ms:.2f} ms a call; such a call runs {where}"
    )
