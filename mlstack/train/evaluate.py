"""Measure a finished run on the part that it was never shown: by class, by slice, by example."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlstack import files
from mlstack.config import load
from mlstack.errors import ConfigError, DataError
from mlstack.inputs import tables
from mlstack.launch import gpus, leases
from mlstack.launch.moved import spec_here
from mlstack.launch.waiting import taken
from mlstack.launch.worker import run_worker
from mlstack.records import base, dvc
from mlstack.records.base import Record
from mlstack.records.dataset import EXAMPLES, EXAMPLES_SCHEMA, read_examples
from mlstack.records.dataset_hash import hash_dataset, is_packed
from mlstack.records.evaluation import (
    ANSWERS,
    ANSWERS_SCHEMA,
    FILE,
    ClassFigures,
    Evaluation,
    SliceFigures,
)
from mlstack.records.layout import Layout
from mlstack.records.run import BEST, CHECKPOINTS, LAST, RunSpec, find_run, summarise
from mlstack.records.worker import WorkerProgress
from mlstack.stats import classification
from mlstack.train.results import Evaluated

WORKER = "mlstack.train.worker.evaluate"
MOST_VALUES = 50  # of a column that makes slices
ORDER = "the data module gives the part in an order of its own, so there are no slices"


@dataclass(frozen=True)
class Answered:
    """A part of a run's examples, and what its weights answer."""

    spec: RunSpec
    part: str
    examples: pa.Table  # of that part
    logits: np.ndarray  # (examples, classes), as the data module gives them
    targets: np.ndarray  # true classes, in the same order

    @property
    def predicted(self) -> np.ndarray:
        """The best class of each example."""
        return np.asarray(self.logits.argmax(axis=1))

    @property
    def confidence(self) -> np.ndarray:
        """The probability of that class."""
        return np.asarray(classification.probabilities(self.logits).max(axis=1))

    @property
    def is_aligned(self) -> bool:
        """Whether the data module keeps the order of the examples, as far as classes tell."""
        return bool(np.array_equal(self.targets, self.examples["target"].to_numpy()))


def evaluate(
    path: Path, sets: tuple[str, ...], wanted: str | None, *, waits: bool = False
) -> Iterator[Record]:
    """Measure a run, the newest finished one when none is named.

    Args:
        path: the project file.
        sets: settings that replace what it says.
        wanted: the run, or a part of its id.
        waits: whether to wait, in order, for a GPU that others use.

    Raises:
        BusyError: others use all GPUs, and they are not waited for.
        DataError: there is no such run, it has not finished, or its data is gone.
        ConfigError: it is no classifier.
    """
    layout = Layout(load(path, sets=sets).root)
    spec = spec_here(layout.root, find_run(layout.runs, wanted))
    folder = layout.run(spec.id)
    checkpoint = _checkpoint(folder, spec)
    examples = read_examples(folder / EXAMPLES)
    part = "test" if "test" in examples["split"].to_pylist() else "val"
    examples = examples.filter(pc.equal(examples["split"], part))
    held = 1 if spec.gpus and gpus.Nvidia().find() else 0
    with (
        leases.claim(held, f"evaluating run `{spec.id}`") as claimed,
        tempfile.TemporaryDirectory(prefix="mlstack-evaluate-") as work,
    ):
        yield from taken(claimed, waits=waits)
        target = Path(work, "answers.npz")
        words = [
            str(folder),
            str(checkpoint),
            part,
            str(target),
            *(gpu.uuid for gpu in claimed.taken),
        ]
        said = msgspec.json.Decoder(WorkerProgress).decode
        yield from run_worker(WORKER, words, said, folder / "logs" / "evaluate.log")
        with np.load(target) as arrays:
            logits, targets = arrays["logits"], arrays["targets"]
    answered = Answered(spec, part, examples, logits, targets)
    found = _judge(answered)
    _keep(folder, answered)
    base.write(folder / FILE, found)
    yield Evaluated(evaluation=found, file=str((folder / FILE).relative_to(layout.root)))


def _checkpoint(folder: Path, spec: RunSpec) -> Path:
    state = summarise(folder).state
    if state != "finished" or spec.mode != "fit":
        what = state if spec.mode == "fit" else "only a check"
        raise DataError(
            f"run `{spec.id}` is {what}; only a finished run is measured",
            hint="type `mlstack train ls`",
        )
    if not spec.classes:
        raise ConfigError("only classifiers can be measured yet")
    source = Path(spec.root) / spec.dataset.source
    if dvc.is_gone(source) and not is_packed(source):
        raise DataError(f"there is no data in `{source}`", hint=dvc.bring_back(source))
    for name in (BEST, LAST):
        if (folder / CHECKPOINTS / name).is_file():
            return folder / CHECKPOINTS / name
    raise DataError(f"run `{spec.id}` has no checkpoint", hint="train it again")


def _judge(answered: Answered) -> Evaluation:
    spec, logits, targets = answered.spec, answered.logits, answered.targets
    counts = classification.confusion(targets, answered.predicted, len(spec.classes))
    precision, recall, f1 = classification.precision_recall_f1(counts)
    there = counts.sum(axis=1)
    right = answered.predicted == targets
    return Evaluation(
        run=spec.id,
        part=answered.part,
        examples=len(targets),
        metrics={
            "acc": float(right.mean()),
            "loss": classification.cross_entropy(logits, targets),
            "f1": float(f1[there > 0].mean()),
            "ece": classification.calibration_error(answered.confidence, right),
        },
        classes=[
            ClassFigures(
                name=name,
                examples=int(there[i]),
                precision=float(precision[i]),
                recall=float(recall[i]),
                f1=float(f1[i]),
            )
            for i, name in enumerate(spec.classes)
        ],
        slices=list(_slices(answered, right)) if answered.is_aligned else [],
        notes=[*_notes(spec), *([] if answered.is_aligned else [ORDER])],
    )


def _notes(spec: RunSpec) -> Iterator[str]:
    source, root = spec.dataset.source, Path(spec.root)
    if hash_dataset(root, source).md5 != spec.dataset.md5:
        yield f"the data in `{spec.dataset.source}` has changed since the run"


def _slices(answered: Answered, right: np.ndarray) -> Iterator[SliceFigures]:
    """Measure by every column that has few values: of the labels, or of the table itself."""
    for column, values in _columns(answered.spec, answered.examples):
        members: dict[str, list[int]] = defaultdict(list)
        for place, value in enumerate(values):
            members[value].append(place)
        if 1 < len(members) <= min(MOST_VALUES, len(values) // 2):
            for value, places in sorted(members.items()):
                accuracy = float(right[places].mean())
                yield SliceFigures(column=column, value=value, examples=len(places), acc=accuracy)


def _columns(spec: RunSpec, examples: pa.Table) -> Iterator[tuple[str, list[str]]]:
    known = {*EXAMPLES_SCHEMA.names, "row", "md5"}
    for column in examples.column_names:
        if column not in known and not pa.types.is_floating(examples.schema.field(column).type):
            yield column, _texts(examples[column])
    if "row" not in examples.column_names or not examples.num_rows:
        return
    table = tables.read(Path(examples["path"][0].as_py())).take(examples["row"])
    for column in table.column_names:
        kind = table.schema.field(column).type
        is_group = pa.types.is_string(kind) or pa.types.is_boolean(kind)
        if is_group and column not in (spec.config["data"]["label"], *examples.column_names):
            yield column, _texts(table[column])


def _texts(column: pa.ChunkedArray) -> list[str]:
    return [tables.class_of(value) or "(none)" for value in column.to_pylist()]


def _keep(folder: Path, answered: Answered) -> None:
    """Write every single answer."""
    examples, classes = answered.examples, answered.spec.classes
    nothing = pa.nulls(len(answered.targets))
    has_rows = answered.is_aligned and "row" in examples.column_names
    table = pa.table(
        [
            (examples["path"] if answered.is_aligned else nothing).cast(pa.string()),
            (examples["row"] if has_rows else nothing).cast(pa.int64()),
            pa.array([classes[i] for i in answered.targets], pa.string()),
            pa.array([classes[i] for i in answered.predicted], pa.string()),
            pa.array(answered.confidence, pa.float32()),
        ],
        schema=ANSWERS_SCHEMA,
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    files.write_bytes(folder / ANSWERS, sink.getvalue().to_pybytes())
