"""The raw files or rows of a run's parts, decoded as `serve` will decode them."""

import hashlib
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from mlstack.errors import DataError, GateError
from mlstack.export.handover import Part
from mlstack.export.worker.arrays import opened
from mlstack.export.worker.parity import softmax
from mlstack.export.worker.session import Session
from mlstack.inputs import images, preprocess, tables
from mlstack.inputs.preprocess import RowSpec, Spec
from mlstack.records import dataset
from mlstack.records.worker import WorkerProgress

BATCH = 64


@dataclass(frozen=True)
class Answered:
    """A part, answered by the graph from the raw files (or from tensors where there are none)."""

    paths: list[str]  # empty for tensors
    targets: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray | None
    same: float | None = None  # share of the data module's rows that the raw files also give
    detail: str = ""
    rows: list[tables.Row] = field(default_factory=list)  # of a table, beside its path
    fields: list[str] = field(default_factory=list)  # of a row that are read

    @property
    def predicted(self) -> np.ndarray:
        """Give the best class of each row."""
        return np.asarray(self.logits.argmax(axis=1))


@dataclass(frozen=True)
class Rows:
    """Files and targets of one part, as `examples.parquet` lists them."""

    paths: list[str]
    targets: np.ndarray
    rows: list[tables.Row] = field(default_factory=list)  # of a table


def rows_of(examples: Path, part: str, spec: Spec) -> Rows:
    """Read which files, or which rows of a table, make a part."""
    table = dataset.read_examples(examples)
    table = table.filter(pc.equal(table["split"], part))
    given = tables.select(table) if isinstance(spec, RowSpec) else []
    return Rows(table["path"].to_pylist(), table["target"].to_numpy().astype(np.int64), given)


def answer_files(
    session: Session, rows: Rows, spec: Spec, text: str
) -> Generator[WorkerProgress, None, tuple[Answered, list[bytes]]]:
    """Decode each file and answer it; the value is `Answered` and the digests of the rows."""
    logits, probabilities, features, digests = [], [], [], []
    for start in range(0, len(rows.paths), BATCH):
        yield WorkerProgress(text=text, done=start, total=len(rows.paths))
        batch, described = _decoded(rows, start, spec)
        digests += [digest(row) for row in batch]
        answered = session.answer_data(batch)
        logits.append(answered[0])
        probabilities.append(answered[1])
        features.append(described)
    return (
        Answered(
            rows.paths,
            rows.targets,
            np.concatenate(logits),
            np.concatenate(probabilities),
            np.concatenate(features),
            rows=rows.rows,
            fields=spec.fields if isinstance(spec, RowSpec) else [],
        ),
        digests,
    )


def _decoded(rows: Rows, start: int, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Decode some inputs, and describe them for `monitor`."""
    if isinstance(spec, RowSpec):
        return spec.read(rows.rows[start : start + BATCH])
    batch = np.stack([images.load(p, spec) for p in rows.paths[start : start + BATCH]])
    return batch, images.features(batch)


def answer_tensors(session: Session, part: Part) -> Answered:
    """Answer what the data module gave, where raw files cannot be decoded here."""
    logits, probabilities = session.answers(opened(part.inputs), BATCH)
    return Answered([], np.asarray(opened(part.targets)), logits, probabilities, None)


def same_rows(part: Part, rows: Rows, digests: list[bytes], spec: Spec) -> tuple[float, str]:
    """Compare the data module's rows with the decoded raw files, bit by bit, in any order.

    Returns:
        The share of the data module's rows (with their targets) that a raw file gives too, and
        what is wrong with the others.
    """
    given, targets = opened(part.inputs), opened(part.targets)
    shape, kind = preprocess.shape(spec), preprocess.datatype(spec)
    if given.dtype != np.dtype(kind) or list(given.shape[1:]) != shape:
        return 0.0, (
            f"the data module gives {given.dtype} {list(given.shape[1:])}, "
            f"the raw file decodes to {kind} {shape}"
        )
    available = Counter(zip(digests, rows.targets.tolist(), strict=True))
    missing = 0
    for row, target in zip(given, targets.tolist(), strict=True):
        key = (digest(row), target)
        missing += available[key] <= 0
        available[key] -= 1
    detail = f"{missing} of {len(given)} rows differ from the decoded raw file" if missing else ""
    return 1 - missing / len(given), detail


def digest(row: np.ndarray) -> bytes:
    """Name the content of a row."""
    return hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=16).digest()


def load_input(path: Path, spec: Spec | None) -> np.ndarray:
    """Read a golden example: an image file, a row in `.json`, or a tensor in `.npy`.

    Raises:
        DataError: it cannot be read.
        GateError: the package takes tensors and this is something else.
    """
    if spec is not None:
        return preprocess.load(path, spec)
    if path.suffix != ".npy":
        raise GateError(f"the package takes tensors only; `{path.name}` is not one")
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError) as error:
        # Not numpy's own words: they advise to load pickles.
        raise DataError(
            f"`{path}` is not a tensor in numpy's format", hint="export the run again"
        ) from error


def metrics_of(part: str, logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Measure accuracy, balanced accuracy, macro F1 and cross-entropy of a part."""
    predicted = logits.argmax(axis=1)
    chance = softmax(logits)[np.arange(len(targets)), targets]
    present = np.unique(targets)
    recall = [float((predicted[targets == c] == c).mean()) for c in present]
    f1 = [_f1(predicted == c, targets == c) for c in np.union1d(present, np.unique(predicted))]
    return {
        f"{part}/acc": float((predicted == targets).mean()),
        f"{part}/balanced_acc": float(np.mean(recall)),
        f"{part}/f1": float(np.mean(f1)),
        f"{part}/loss": float(-np.log(np.maximum(chance, 1e-12)).mean()),
    }


def _f1(predicted: np.ndarray, actual: np.ndarray) -> float:
    both = predicted.sum() + actual.sum()
    return float(2 * (predicted & actual).sum() / both) if both else 0.0
