"""How far the graph is from the training code, and from itself in other batches."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import numpy as np

from mlstack.errors import GateError
from mlstack.export.handover import Part
from mlstack.export.worker.arrays import opened
from mlstack.export.worker.session import Session, batches
from mlstack.inputs import texts
from mlstack.records.package import Parity
from mlstack.records.worker import WorkerProgress

# A quantiser can be right at its calibration batch size and wrong at all others, and a traced
# reshape right at the traced one: hence single rows, odd sizes and a large one.
SIZES = (1, 2, 7, 32, 256)
BATCH = 32
HUGE = 1e30


@dataclass(frozen=True)
class Compared:
    """What `compare` measured."""

    parity: Parity
    probability_diff: float
    max_probability_diff: float
    accuracy_drop: float
    batch_diff: float
    batch_probability_diff: float
    sum_error: float
    finite: bool
    deterministic: bool
    probabilities: dict[int, np.ndarray]  # (rows, classes) by batch size


def compare(session: Session, part: Part) -> Generator[WorkerProgress, None, Compared]:
    """Answer the whole part at each batch size; the generator's value is `Compared`."""
    inputs, expected = opened(part.inputs), np.asarray(opened(part.logits))
    targets = np.asarray(opened(part.targets))
    answers: list[tuple[np.ndarray, np.ndarray]] = []
    for done, size in enumerate(SIZES):
        text = f"comparing {len(inputs)} examples with the training code, {size} at a time"
        yield WorkerProgress(text=text, done=done, total=len(SIZES))
        answers.append(session.answers(inputs, size))
    answers.append(_in_another_order(session, inputs))
    scale = max(float(np.abs(expected).max()), 1e-12)
    diff = worst(np.abs(logits - expected) for logits, _ in answers)
    first_logits, first = answers[0]
    wanted = softmax(expected)
    change = np.concatenate([np.abs(p - wanted).max(axis=1) for _, p in answers])
    measured = Parity(
        examples=len(inputs),
        batch_sizes=list(SIZES),
        max_abs_diff=diff,
        output_scale=scale,
        max_relative_diff=diff / scale,
        agreement=min(agreement(logits, expected) for logits, _ in answers),
    )
    return Compared(
        parity=measured,
        probability_diff=worst([np.quantile(change, 0.999)]),
        max_probability_diff=worst([change]),
        accuracy_drop=max(accuracy(expected, targets) - accuracy(o, targets) for o, _ in answers),
        batch_diff=worst(np.abs(o - first_logits) for o, _ in answers[1:]) / scale,
        batch_probability_diff=worst(np.abs(p - first) for _, p in answers[1:]),
        sum_error=worst(np.abs(p.sum(axis=1) - 1) for _, p in answers),
        finite=_finite_at_ends(session, inputs),
        deterministic=_same_twice(session, inputs[:BATCH]),
        probabilities={size: p for size, (_, p) in zip(SIZES, answers, strict=False)},
    )


def shortened(
    session: Session, part: Part, whole: dict[int, np.ndarray]
) -> Generator[WorkerProgress, None, float]:
    """Answer texts without what only fills them up, one and many at a time.

    Args:
        session: the graph.
        part: texts, filled up.
        whole: probabilities of these, by batch size.

    Returns:
        The largest change of a probability; as large as can be where another class is chosen or
        the graph refuses the shorter ones.
    """
    inputs = opened(part.inputs)
    empty = np.zeros_like(inputs[:1])
    expected = [session.answer(empty)[1]]
    calls = [empty]
    for size in (1, BATCH):
        calls += batches(inputs, size)
        expected += batches(whole[size], size)
    found = 0.0
    for done, (call, wanted) in enumerate(zip(calls, expected, strict=True)):
        if done % BATCH == 0:
            yield WorkerProgress(text="answering shortened texts", done=done, total=len(calls))
        try:
            short = session.answer(texts.shortened(call))[1]
        except GateError:
            return HUGE
        if not np.array_equal(short.argmax(axis=1), wanted.argmax(axis=1)):
            return HUGE
        found = max(found, worst([np.abs(short - wanted)]))
    return found


def worst(differences: Iterable[np.ndarray]) -> float:
    """Give the largest of some differences; one that is not a number is as large as can be."""
    largest = max(float(np.nan_to_num(d, nan=HUGE, posinf=HUGE).max()) for d in differences)
    return min(largest, HUGE)


def agreement(logits: np.ndarray, expected: np.ndarray) -> float:
    """Give the share of equal predicted classes.

    Where the two best classes of the training code are as good as tied (closer than 1e-4 of the
    output's scale), the second best is right too.
    """
    best_two = np.argsort(expected, axis=1)[:, -2:]
    rows = np.arange(len(expected))
    margin = expected[rows, best_two[:, -1]] - expected[rows, best_two[:, 0]]
    tied = margin < 1e-4 * float(np.abs(expected).max())
    chosen = logits.argmax(axis=1)
    right = (chosen == best_two[:, -1]) | (tied & (chosen == best_two[:, 0]))
    return float(right.mean())


def accuracy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Give the share of rows whose best class is the target."""
    return float((logits.argmax(axis=1) == targets).mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits into probabilities, row by row."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _in_another_order(session: Session, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(0).permutation(len(inputs))
    logits, probabilities = session.answers(inputs[order], BATCH)
    back = np.argsort(order)
    return logits[back], probabilities[back]


def _finite_at_ends(session: Session, inputs: np.ndarray) -> bool:
    """Tell whether an all-black and an all-white image (or such rows) give finite answers."""
    shape = (2, *inputs.shape[1:])
    kind = inputs.dtype
    ends = (0, 255) if kind == np.uint8 else (inputs.min(), inputs.max())
    extreme = np.stack([np.full(shape[1:], end, dtype=kind) for end in ends])
    logits, probabilities = session.answer(extreme)
    return bool(np.isfinite(logits).all() and np.isfinite(probabilities).all())


def _same_twice(session: Session, batch: np.ndarray) -> bool:
    """Tell whether the same batch gives the same bits again."""
    first, second = (session.answer(batch)[0].tobytes() for _ in range(2))
    return first == second
