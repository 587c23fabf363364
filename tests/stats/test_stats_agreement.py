import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from mlstack.stats.agreement import cohen_kappa, raw_agreement


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    first = random.choice(["ant", "bee", "cat"], size=200, p=[0.7, 0.2, 0.1])
    second = np.where(random.random(200) < 0.8, first, random.choice(["ant", "bee"], size=200))

    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)
    assert raw_agreement(first, second) == np.mean(first == second)


def test_kappa_of_opposites_is_negative() -> None:
    first = np.array(["a", "b", "a", "b"])
    second = np.array(["b", "a", "b", "a"])

    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_two_who_always_say_the_same_word_agree() -> None:
    same = np.array(["a", "a"])

    assert cohen_kappa(same, same) == 1.0


def test_nothing_in_common_is_an_error() -> None:
    with pytest.raises(ValueError, match="no items"):
        cohen_kappa(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="differ"):
        raw_agreement(np.array(["a"]), np.array(["a", "b"]))
