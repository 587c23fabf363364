"""How good answers of a classifier are."""

import numpy as np


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Turn logits (rows, classes) into probabilities that add up to 1 (softmax)."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    total: np.ndarray = shifted / shifted.sum(axis=1, keepdims=True)
    return total


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Give the mean negative log-likelihood in nats.

    Args:
        logits: shape (rows, classes).
        targets: index of the true class, shape (rows,).
    """
    highest = logits.max(axis=1)
    normaliser = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return float((normaliser - logits[np.arange(len(targets)), targets]).mean())


def confusion(targets: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count the pairs of true and predicted class; shape (classes, classes), true class first."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (targets, predicted), 1)
    return counts


def precision_recall_f1(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give precision, recall and their harmonic mean of each class; 0 where nothing is counted.

    Args:
        counts: as `confusion` gives them.
    """
    right = np.diag(counts).astype(float)
    claimed, there = counts.sum(axis=0), counts.sum(axis=1)
    precision = np.divide(right, claimed, out=np.zeros_like(right), where=claimed > 0)
    recall = np.divide(right, there, out=np.zeros_like(right), where=there > 0)
    both = precision + recall
    f1 = np.divide(2 * precision * recall, both, out=np.zeros_like(right), where=both > 0)
    return precision, recall, f1


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Measure how far confidence is from accuracy (expected calibration error).

    Guo, Pleiss, Sun, Weinberger 2017, equation 3: bins of equal width, weighted by their size.

    Args:
        confidence: probability of the predicted class, in (0, 1], shape (rows,).
        right: whether the prediction is true, shape (rows,).
        bins: how many.
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    size = np.bincount(place, minlength=bins)
    sums = np.bincount(place, weights=right.astype(float) - confidence, minlength=bins)
    return float(np.abs(sums).sum() / max(size.sum(), 1))
