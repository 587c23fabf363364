import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlstack.stats import twins


@given(
    hashes=st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 15), max_size=30),
    distance=st.integers(0, 8),
)
def test_pairs_are_those_that_comparing_all_with_all_finds(hashes, distance) -> None:
    numbers = np.array(hashes, np.uint64)

    blocks = twins.near_pairs(numbers, distance)
    found = sorted((i, j) for block in blocks for i, j in block.tolist())

    assert found == [
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if bin(hashes[i] ^ hashes[j]).count("1") <= distance
    ]


def test_a_fingerprint_has_a_bit_for_each_rise_of_brightness() -> None:
    grey = np.zeros((2, 8, 9), np.uint8)
    grey[1, 0] = [0, 1, 0, 1, 0, 1, 0, 1, 0]

    assert twins.difference_hashes(grey).tolist() == [0, 0b10101010 << 56]


def test_brightness_and_contrast_leave_a_fingerprint_as_it_is() -> None:
    grey = np.random.default_rng(0).integers(0, 120, (20, 8, 9)).astype(np.float32)

    assert (twins.difference_hashes(grey) == twins.difference_hashes(grey * 2 + 10)).all()
