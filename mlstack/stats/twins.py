"""Which images look alike: 64-bit fingerprints, and all pairs of them that are close."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

BITS = 64


def difference_hashes(grey: np.ndarray) -> npt.NDArray[np.uint64]:
    """Fingerprint images by where brightness rises from left to right (dHash).

    Neal Krawetz, "Kind of Like That", The Hacker Factor Blog, 2013. Scaling, recompression and
    changes of brightness or contrast leave nearly all bits as they are.

    Args:
        grey: brightness, shape (images, 8, 9).

    Returns:
        one number per image, shape (images,).
    """
    rising = grey[:, :, 1:] > grey[:, :, :-1]  # (images, 8, 8)
    packed = np.packbits(rising.reshape(len(grey), BITS), axis=1)
    return packed.view(">u8").astype(np.uint64).reshape(len(grey))


def near_pairs(hashes: npt.NDArray[np.uint64], distance: int) -> Iterator[npt.NDArray[np.int64]]:
    """Find all pairs of fingerprints that differ in at most `distance` bits.

    Of two such, at least one of `distance + 1` bands of bits is equal (pigeonhole), so only
    members of one bucket are compared. Bits that nearly all images share tell nothing; they are
    dealt out, some to each band, so that no band is made of them.

    Args:
        hashes: shape (images,).
        distance: bits, below 64.

    Yields:
        positions (first, second), first < second, in blocks of shape (pairs, 2); each pair once.
    """
    if len(hashes) < 2:
        return
    bits = np.unpackbits(hashes.astype(">u8").view(np.uint8)).reshape(len(hashes), BITS)
    telling = np.argsort(-np.var(bits, axis=0), kind="stable")  # bit positions
    masks: list[np.uint64] = []
    for band in range(distance + 1):
        places = BITS - 1 - telling[band :: distance + 1]
        mask = np.bitwise_or.reduce(np.uint64(1) << places.astype(np.uint64))
        for first, second in _same_bucket(hashes & mask):
            differing = hashes[first] ^ hashes[second]
            near = np.bitwise_count(differing) <= distance
            for earlier in masks:  # a pair of an earlier band was given there
                near &= (differing & earlier) != 0
            if near.any():
                yield np.sort(np.stack([first[near], second[near]], axis=1), axis=1)
        masks.append(mask)


def _same_bucket(
    band: npt.NDArray[np.uint64],
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Give all pairs of positions with equal values, many at a time."""
    order = np.argsort(band, kind="stable")
    _, starts, sizes = np.unique(band[order], return_index=True, return_counts=True)
    ends = np.repeat(starts + sizes, sizes)
    places = np.arange(len(order))
    step = 1
    # Step k pairs each member with the k-th after it in its bucket: whole arrays at a time.
    while len(places := places[places + step < ends[places]]):
        yield order[places], order[places + step]
        step += 1
