"""The live package on the test part of this run: a new one must not be worse."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlstack.errors import MlstackError
from mlstack.export.handover import MeasureRequest, Pair, Rival
from mlstack.export.worker import raw
from mlstack.export.worker.raw import Answered
from mlstack.export.worker.session import Session
from mlstack.inputs import preprocess
from mlstack.inputs.preprocess import RowSpec
from mlstack.records import dataset


@dataclass(frozen=True)
class Duel:
    """Both on the same examples, none of which the live package was trained on."""

    live: dict[str, float] = field(default_factory=dict)
    here: dict[str, float] = field(default_factory=dict)
    pair: Pair | None = None
    problem: str = ""


def duel(request: MeasureRequest, test: Answered | None) -> Duel:
    """Measure the live package on the raw files of this run's test part."""
    live = request.live
    if live is None:
        return Duel(problem="no package is live yet")
    if live.problem:
        return Duel(problem=live.problem)
    if live.classes != request.built.classes:
        return Duel(problem=f"package {live.number} is live and has other classes")
    if live.preprocess is None:
        return Duel(problem=f"package {live.number} is live and takes no files")
    if test is None:
        return Duel(problem="the run has no test part")
    if not test.paths:
        return Duel(problem="the data module has no `input_spec` for the files of the test part")
    spec = preprocess.from_json(live.preprocess)
    rows = raw.rows_of(Path(request.examples), "test", spec)
    unseen = _unseen(live, rows, spec)
    if unseen is None or not unseen.any():
        return Duel(problem=f"package {live.number} is live and was trained on another split")
    try:
        answered, _ = _value(raw.answer_files(Session(Path(live.model)), rows, spec, ""))
    except MlstackError as error:
        return Duel(
            problem=f"package {live.number} is live and cannot be measured: {error.problem}"
        )
    was = (answered.predicted == answered.targets)[unseen]
    now = (test.predicted == test.targets)[unseen]
    return Duel(
        live=raw.metrics_of("test", answered.logits[unseen], answered.targets[unseen]),
        here=raw.metrics_of("test", test.logits[unseen], test.targets[unseen]),
        pair=Pair(
            column="",
            value="",
            examples=int(unseen.sum()),
            lost=int((was & ~now).sum()),
            gained=int((~was & now).sum()),
        ),
    )


def _unseen(live: Rival, rows: raw.Rows, spec: preprocess.Spec) -> np.ndarray | None:
    """Tell which rows the live package never saw in training; None if nobody can know."""
    if live.same_split:
        return np.ones(len(rows.paths), dtype=bool)
    if live.examples is None or isinstance(spec, RowSpec):  # rows of a table share their path
        return None
    examples = dataset.read_examples(Path(live.examples)).to_pylist()
    seen = {row["path"] for row in examples if row["split"] != "test"}
    return np.array([path not in seen for path in rows.paths], dtype=bool)


def _value(generator: Iterator[Any]) -> Any:
    try:
        while True:
            next(generator)
    except StopIteration as end:
        return end.value
