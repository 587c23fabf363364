"""Accuracy: measured where labels came in, estimated where they did not."""

import numpy as np

from mlstack.monitor.drift import CONFIDENCE
from mlstack.monitor.windows import Labelled, Window
from mlstack.records.reference import Reference
from mlstack.records.report import Finding, Quality
from mlstack.stats import testing

ALLOWED_DROP = 0.05
SUBJECT = "accuracy"


def estimate(reference: Reference, window: Window) -> float | None:
    """Estimate the window's accuracy from its confidences alone; None when that is impossible.

    The accuracy on the reference, less what the mean confidence has dropped since: the average
    confidence method of Garg et al. 2022, corrected by what it gets wrong on the reference. It is
    blind to concept drift, where the model is as sure as ever of answers that became wrong.
    """
    before, now = _confidence(reference), _mean(window)
    if before is None or now is None or reference.accuracy is None:
        return None
    return min(1.0, max(0.0, reference.accuracy - (before - now)))


def measure(found: Labelled, window: Window) -> Quality:
    """Give the measured accuracy with its interval, and how much of the window is labelled."""
    low, high = testing.wilson(found.correct, found.labels)
    return Quality(
        labels=found.labels,
        correct=found.correct,
        accuracy=found.correct / found.labels,
        low=low,
        high=high,
        coverage=found.labelled_in_window / max(1, window.rows),
    )


def expected(reference: Reference, found: Labelled, window: Window) -> float | None:
    """Give the accuracy that the labelled predictions had if nothing has changed.

    That on the reference, less what the model is less sure of them than of the others, in the
    window or on the reference: who labels what an alert asks for labels the least confident
    predictions, which are wrong more often in the best of models.
    """
    means = [mean for mean in (_confidence(reference), _mean(window)) if mean is not None]
    if reference.accuracy is None or found.confidence is None or not means:
        return reference.accuracy
    return max(0.0, reference.accuracy - max(0.0, min(means) - found.confidence))


def judge(quality: Quality, wanted: float | None, rows: int, least: int) -> Finding | None:
    """Alarm when the accuracy is certainly well below `wanted`, that of `rows` reference examples.

    Fewer than `least` labels are shown and never alarm. None when there is nothing to compare with.
    """
    if wanted is None:
        return None
    certain, _ = testing.difference_of_shares(
        (wanted * rows, rows), (quality.correct, quality.labels)
    )
    drop = max(0.0, certain)
    return Finding(
        subject=SUBJECT,
        area="quality",
        alert=quality.labels >= least and drop > ALLOWED_DROP,
        effect=drop,
        limit=ALLOWED_DROP,
        statistic="certain drop",
        detail=f"{wanted:.1%} -> {quality.accuracy:.1%} "
        f"({quality.low:.1%} to {quality.high:.1%}) on {quality.labels} labels",
    )


def _confidence(reference: Reference) -> float | None:
    column = next((one for one in reference.numeric if one.name == CONFIDENCE), None)
    return column.mean if column is not None and any(column.counts) else None


def _mean(window: Window) -> float | None:
    values = window.numeric.get(CONFIDENCE, np.zeros(0))
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else None
