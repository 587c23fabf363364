from itertools import pairwise

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn import metrics

from mlstack.stats import classification


@pytest.fixture(params=range(3))
def answers(request) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(request.param)
    targets = random.integers(0, 5, size=400)
    logits = random.normal(size=(400, 6)).astype(np.float32) * 8  # a sixth class never occurs
    logits[np.arange(400), targets] += 6
    return logits, targets


def test_loss_and_probabilities_are_those_of_scipy_and_scikit_learn(answers) -> None:
    logits, targets = answers

    found = classification.cross_entropy(logits, targets)

    expected = softmax(logits.astype(float), axis=1)
    likelihood = log_softmax(logits.astype(float), axis=1)[np.arange(400), targets]
    assert found == pytest.approx(-likelihood.mean(), rel=1e-6)
    np.testing.assert_allclose(classification.probabilities(logits), expected, atol=1e-6)


def test_precision_recall_and_f1_are_those_of_scikit_learn(answers) -> None:
    logits, targets = answers
    predicted = logits.argmax(axis=1)

    counts = classification.confusion(targets, predicted, 6)
    found = classification.precision_recall_f1(counts)

    expected = metrics.precision_recall_fscore_support(
        targets, predicted, labels=range(6), zero_division=0
    )
    np.testing.assert_array_equal(
        counts, metrics.confusion_matrix(targets, predicted, labels=range(6))
    )
    np.testing.assert_allclose(found, expected[:3])


def test_calibration_is_that_of_the_definition(answers) -> None:
    logits, targets = answers
    confidence = classification.probabilities(logits).max(axis=1)
    right = logits.argmax(axis=1) == targets
    edges = np.linspace(0, 1, 16)
    expected = 0.0
    for low, high in pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.sum() / len(right) * gap

    assert classification.calibration_error(confidence, right) == pytest.approx(expected, abs=1e-6)


def test_who_is_certain_and_right_is_calibrated_who_is_wrong_is_not() -> None:
    certain = np.ones(10)

    assert classification.calibration_error(certain, np.ones(10, bool)) == 0
    assert classification.calibration_error(certain, np.zeros(10, bool)) == 1


def test_large_logits_stay_finite() -> None:
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0]], dtype=np.float32)

    assert classification.cross_entropy(logits, np.array([0, 0])) == pytest.approx(500)
    assert np.isfinite(classification.probabilities(logits)).all()
