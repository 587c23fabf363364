"""`python -m mlstack.export.worker.measure REQUEST`: judge a graph as production will see it.

There is no torch in this process: raw files, Pillow, numpy and onnxruntime, like in `serve`. It
limits its own time and memory; when the graph crashes it, that is a red gate and no more.
"""

import sys
from collections import defaultdict
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlstack.errors import MlstackError
from mlstack.export.handover import GOLDEN, Expected, Figures, MeasureRequest, Said, Slice
from mlstack.export.worker import golden, parity, raw
from mlstack.export.worker.arrays import opened
from mlstack.export.worker.channel import answer
from mlstack.export.worker.profile import profile
from mlstack.export.worker.session import Session, limit
from mlstack.inputs import preprocess, tables
from mlstack.inputs.preprocess import Spec
from mlstack.records import dataset
from mlstack.records.package import Golden


def measure(request: MeasureRequest) -> Iterator[Said]:
    """Compare, judge from raw files, time, and keep what the package will hold."""
    folder, built = Path(request.folder), request.built
    model = folder / request.model
    on_cpu = request.device == "cpu"
    limit(model, request.limit_s, extra_bytes=_mapped_bytes(request) if on_cpu else None)
    Session(model, device=request.device)  # refused at once where there is no such device
    session = Session(model)
    compared = yield from parity.compare(session, built.val)
    val = yield from _part(session, request, "val")
    test = (yield from _part(session, request, "test")) if built.test else None
    judged, judged_part = (test, built.test) if test and built.test else (val, built.val)
    parts = [val] + ([test] if test else [])
    slices, missing = _slices(request, test)
    live, live_problem = _live(request)
    baseline = folder / request.baseline if request.baseline else None
    calls = opened(built.val.inputs)
    yield Figures(
        parity=compared.parity,
        probability_diff=compared.probability_diff,
        accuracy_drop=compared.accuracy_drop,
        batch_diff=compared.batch_diff,
        batch_probability_diff=compared.batch_probability_diff,
        sum_error=compared.sum_error,
        finite=compared.finite,
        metrics=_metrics(val, test),
        training_metrics=_training_metrics(request),
        per_class=_per_class(judged, built.classes),
        latency_ms=_latency(model, request, calls),
        golden=Golden(
            tolerance=request.tolerance,
            examples=golden.choose(judged, judged_part, built.classes, folder / GOLDEN),
        ),
        reference=profile(parts, built.classes, _origin(request, bool(test)), _spec(request)),
        size_bytes=model.stat().st_size,
        same_inputs=min((p.same for p in parts if p.same is not None), default=None),
        inputs_detail="; ".join(p.detail for p in parts if p.detail),
        baseline_size_bytes=baseline.stat().st_size if baseline else None,
        baseline_latency_ms=_latency(baseline, request, calls) if baseline else {},
        slices=slices,
        missing_columns=missing,
        wrong=_wrong(session, request),
        live_metrics=live,
        live_problem=live_problem,
    )


def _part(
    session: Session, request: MeasureRequest, name: str
) -> Generator[Said, None, raw.Answered]:
    built = request.built
    given = built.val if name == "val" else built.test
    assert given is not None
    spec = _spec(request)
    if spec is None:
        return raw.answer_tensors(session, given)
    wanted = (np.dtype(preprocess.datatype(spec)).str, preprocess.shape(spec))
    if (given.inputs.dtype, given.inputs.shape[1:]) != wanted:
        _, detail = raw.same_rows(given, raw.Rows([], np.empty(0)), [], spec)
        return replace(raw.answer_tensors(session, given), same=0.0, detail=detail)
    rows = raw.rows_of(Path(request.examples), name, spec)
    text = f"answering the raw files of the {name} part"
    answered, digests = yield from raw.answer_files(session, rows, spec, text)
    same, detail = raw.same_rows(given, rows, digests, spec)
    return replace(answered, same=same, detail=f"{name}: {detail}" if detail else "")


def _spec(request: MeasureRequest) -> Spec | None:
    given = request.built.preprocess
    return preprocess.from_json(given) if given is not None else None


def _metrics(val: raw.Answered, test: raw.Answered | None) -> dict[str, float]:
    found = raw.metrics_of("val", val.logits, val.targets)
    return found | (raw.metrics_of("test", test.logits, test.targets) if test else {})


def _training_metrics(request: MeasureRequest) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, part in (("val", request.built.val), ("test", request.built.test)):
        if part is not None:
            logits, targets = np.asarray(opened(part.logits)), np.asarray(opened(part.targets))
            found |= raw.metrics_of(name, logits, targets)
    return found


def _per_class(answered: raw.Answered, classes: list[str]) -> dict[str, float]:
    right = answered.predicted == answered.targets
    return {
        name: float(right[answered.targets == i].mean())
        for i, name in enumerate(classes)
        if (answered.targets == i).any()
    }


def _slices(request: MeasureRequest, test: raw.Answered | None) -> tuple[list[Slice], list[str]]:
    """Give accuracy by the values of each wanted column of the labels table."""
    if not request.columns or test is None or not test.paths:
        return [], list(request.columns)
    right = test.predicted == test.targets
    slices, missing = [], []
    for column in request.columns:
        found = _values(request, test, column)
        if found is None:
            missing.append(column)
            continue
        members: dict[str, list[int]] = defaultdict(list)
        for row, value in enumerate(found):
            members[value].append(row)
        slices += [
            Slice(column=column, value=v, accuracy=float(right[m].mean()), examples=len(m))
            for v, m in sorted(members.items())
        ]
    return slices, missing


def _values(request: MeasureRequest, test: raw.Answered, column: str) -> list[str] | None:
    """Give a column's value for each test example; None if there is no such column."""
    if test.rows:
        known = column in test.rows[0]
        return [tables.class_of(row[column]) or "(none)" for row in test.rows] if known else None
    values = _by_path(request, column)
    return None if values is None else [values.get(path, "(none)") for path in test.paths]


def _by_path(request: MeasureRequest, column: str) -> dict[str, str] | None:
    """Give a column by absolute path: from the run's examples, else from the labels table."""
    examples = dataset.read_examples(Path(request.examples))
    if column in examples.column_names:
        return {r["path"]: str(r[column]) for r in examples.to_pylist()}
    if request.labels is None:
        return None
    labels = dataset.read_labels(Path(request.labels))
    if column not in labels.column_names:
        return None
    source = Path(request.labels).parent
    return {str(source / r["path"]): str(r[column]) for r in labels.to_pylist()}


def _live(request: MeasureRequest) -> tuple[dict[str, float], str]:
    """Measure the live package on the raw files of this run's test part."""
    live = request.live
    if live is None:
        return {}, "no package is live yet"
    if live.classes != request.built.classes or live.preprocess is None:
        return {}, f"package {live.number} is live and has other classes or takes no files"
    if request.built.test is None:
        return {}, "the run has no test part"
    spec = preprocess.from_json(live.preprocess)
    rows = raw.rows_of(Path(request.examples), "test", spec)
    try:
        answered, _ = _value(raw.answer_files(Session(Path(live.model)), rows, spec, ""))
    except MlstackError as error:
        return {}, f"package {live.number} is live and cannot be measured: {error.problem}"
    return raw.metrics_of("test", answered.logits, answered.targets), ""


def _wrong(session: Session, request: MeasureRequest) -> list[str]:
    if not request.expected:
        return []
    spec = _spec(request)
    if spec is None:
        return ["the data module has no `input_spec`, so files cannot be decoded"]
    return [line for e in request.expected if (line := _mismatch(session, e, request, spec))]


def _mismatch(session: Session, expected: Expected, request: MeasureRequest, spec: Spec) -> str:
    row = preprocess.load(Path(request.root) / expected.file, spec)
    if list(row.shape) != request.built.input.shape[1:]:
        return f"{expected.file}: decodes to {list(row.shape)}"
    logits, _ = session.answer(row[None])
    found = request.built.classes[int(logits.argmax())]
    return "" if found == expected.label else f"{expected.file}: {found}, not {expected.label}"


def _latency(model: Path, request: MeasureRequest, inputs: np.ndarray) -> dict[str, float]:
    session = Session(model, device=request.device)
    return session.latency_ms(inputs, request.latency_batch)


def _origin(request: MeasureRequest, tested: bool) -> str:
    return f"{'val+test' if tested else 'val'} of run {request.run}"


def _mapped_bytes(request: MeasureRequest) -> int:
    parts = [p for p in (request.built.val, request.built.test) if p]
    paths = [Path(s.file) for p in parts for s in (p.inputs, p.targets, p.logits)]
    return 4 * sum(p.stat().st_size for p in paths)


def _value(generator: Iterator[Any]) -> Any:
    try:
        while True:
            next(generator)
    except StopIteration as end:
        return end.value


if __name__ == "__main__":
    sys.exit(answer(MeasureRequest, measure))
