"""`python -m mlstack.export.worker.measure REQUEST`: judge a graph as production will see it.

There is no torch in this process: raw files, Pillow, numpy and onnxruntime, like in `serve`. It
limits its own time and memory; when the graph crashes it, that is a red gate and no more.
"""

from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlstack.export.handover import GOLDEN, Expected, Figures, MeasureRequest, Said
from mlstack.export.worker import golden, pairs, parity, raw, rival
from mlstack.export.worker.arrays import ArrayFile, opened
from mlstack.export.worker.channel import answer
from mlstack.export.worker.profile import profile
from mlstack.export.worker.session import Session, limit, size_bytes
from mlstack.export.worker.slices import every_row, slices
from mlstack.inputs import preprocess
from mlstack.inputs.preprocess import Spec
from mlstack.records.package import Golden
from mlstack.stats import testing


def measure(request: MeasureRequest) -> Iterator[Said]:
    """Compare, judge from raw files, and keep what the package will hold."""
    folder, built = Path(request.folder), request.built
    model = folder / request.model
    limit(model, request.limit_s, extra_bytes=_mapped_bytes(request))
    session = Session(model)
    compared = yield from parity.compare(session, built.val)
    short_diff = None
    if built.any_length:
        short_diff = yield from parity.shortened(session, built.val, compared.probabilities)
    val = yield from _part(session, request, "val")
    test = (yield from _part(session, request, "test")) if built.test else None
    judged, judged_part = (test, built.test) if test and built.test else (val, built.val)
    parts = [val] + ([test] if test else [])
    found, missing = slices(request, test)
    duel = rival.duel(request, test)
    kept = folder / f"{request.precision}-{GOLDEN}"
    yield Figures(
        parity=compared.parity,
        probability_diff=compared.probability_diff,
        max_probability_diff=compared.max_probability_diff,
        accuracy_drop=compared.accuracy_drop,
        batch_diff=compared.batch_diff,
        batch_probability_diff=compared.batch_probability_diff,
        sum_error=compared.sum_error,
        finite=compared.finite,
        short_diff=short_diff,
        deterministic=compared.deterministic,
        metrics=_metrics(val, test),
        training_metrics=_training_metrics(request),
        per_class=_per_class(judged, built.classes),
        golden=Golden(
            tolerance=request.tolerance,
            examples=golden.choose(judged, judged_part, built.classes, kept),
        ),
        reference=profile(parts, built.classes, _origin(request, bool(test)), _spec(request)),
        size_bytes=size_bytes(model),
        answers=_keep(parts, folder / f"{request.precision}-answers.raw"),
        same_inputs=min((p.same for p in parts if p.same is not None), default=None),
        inputs_detail="; ".join(p.detail for p in parts if p.detail),
        slices=found,
        missing_columns=missing,
        wrong=_wrong(session, request),
        live_metrics=duel.live,
        rival_metrics=duel.here,
        live_pair=duel.pair,
        live_problem=duel.problem,
        live_fails=duel.fails,
        **_against_baseline(request, parts),
    )


def _against_baseline(request: MeasureRequest, parts: list[raw.Answered]) -> dict[str, Any]:
    """Compare with the answers of the graph in full precision, row by row."""
    if request.baseline is None:
        return {}
    before, classes = np.asarray(opened(request.baseline)), request.built.classes
    after = np.concatenate([p.probabilities for p in parts])
    losses = pairs.log_losses(after, parts) - pairs.log_losses(before, parts)
    return {
        "pairs": pairs.compare(before, parts, classes, every_row(request, parts)),
        "changed": pairs.changed(before, parts, classes),
        "loss_change": testing.bootstrap_mean(losses),
    }


def _keep(parts: list[raw.Answered], path: Path) -> Any:
    with ArrayFile(path) as kept:
        for part in parts:
            kept.append(part.probabilities)
        return kept.stored()


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


def _origin(request: MeasureRequest, tested: bool) -> str:
    return f"{'val+test' if tested else 'val'} of run {request.run}"


def _mapped_bytes(request: MeasureRequest) -> int:
    parts = [p for p in (request.built.val, request.built.test) if p]
    paths = [Path(s.file) for p in parts for s in (p.inputs, p.targets, p.logits)]
    return 4 * sum(p.stat().st_size for p in paths)


if __name__ == "__main__":
    answer(MeasureRequest, measure)
