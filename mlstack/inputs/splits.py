"""Divide examples into train, val and test: the same examples, the same parts."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Shares:
    """Shares of train, val and test."""

    train: float
    val: float
    test: float


def divide(names: list[str], strata: list[str] | None, shares: Shares, seed: int) -> list[str]:
    """Give the part of each example.

    The order inside a stratum is that of the SHA-1 of seed and name, so it depends on nothing
    else, and most examples keep their part when others are added.

    Args:
        names: what identifies an example; equal names get equal parts.
        strata: a value per example whose balance every part keeps; None divides all at once.
        shares: sizes of the parts.
        seed: another seed, another division.
    """
    members: dict[str, set[str]] = defaultdict(set)
    for position, name in enumerate(names):
        members[strata[position] if strata else ""].add(name)
    part: dict[str, str] = {}
    for group in members.values():
        ordered = sorted(group, key=lambda name: rank(name, seed))
        first, second = _borders(len(ordered), shares)
        for position, name in enumerate(ordered):
            part[name] = PARTS[(position >= first) + (position >= second)]
    return [part[name] for name in names]


def _borders(count: int, shares: Shares) -> tuple[int, int]:
    """Give where val and test begin; a part with a share gets a member while there are enough."""
    sizes = [share > 0 for share in (shares.train, shares.val, shares.test)]
    first = round(count * shares.train)
    second = round(count * (shares.train + shares.val))
    if count >= sum(sizes):
        second = min(second, count - sizes[2])
        first = min(max(first, int(sizes[0])), second - sizes[1])
        second = max(second, first + sizes[1])
    return first, second


def rank(name: str, seed: int) -> bytes:
    """Give the place of a name in an order that depends on nothing but a seed."""
    return hashlib.sha1(f"{seed}:{name}".encode(), usedforsecurity=False).digest()
