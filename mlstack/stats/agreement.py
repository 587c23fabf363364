"""How far two annotators concur on the items that both of them labeled."""

import numpy as np


def raw_agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Give the share of items with equal labels.

    Args:
        first: labels of one annotator, shape (items,), any comparable type.
        second: labels of the other one, same items in the same order.

    Raises:
        ValueError: the shapes differ or there are no items.
    """
    _check(first, second)
    return float(np.mean(first == second))


def cohen_kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Give the agreement beyond chance: 1 is perfect, 0 is chance, below 0 is worse.

    (p_o - p_e) / (1 - p_e), J. Cohen, "A coefficient of agreement for nominal scales", 1960.
    When both used one and the same class only, p_e is 1 and the ratio undefined; they agreed
    everywhere, so 1 is given.

    Args:
        first: labels of one annotator, shape (items,), any comparable type.
        second: labels of the other one, same items in the same order.

    Raises:
        ValueError: the shapes differ or there are no items.
    """
    _check(first, second)
    classes, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    left, right = codes[: len(first)], codes[len(first) :]  # (items,) each
    share_left = np.bincount(left, minlength=len(classes)) / len(first)
    share_right = np.bincount(right, minlength=len(classes)) / len(first)
    expected = float(share_left @ share_right)
    observed = float(np.mean(left == right))
    return 1.0 if expected == 1 else (observed - expected) / (1 - expected)


def _check(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"shapes {first.shape} and {second.shape} differ or are not flat")
    if not len(first):
        raise ValueError("no items")
