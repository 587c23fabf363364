"""When a canary has left its bounds: arithmetic."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from mlstack.records.server import RollbackSpec
from mlstack.serve.worker.guard import Guard, Rolling, lower_bound


@pytest.mark.parametrize(
    ("bad", "total"), [(0, 5), (1, 1), (3, 3), (1, 20), (30, 1000), (999, 1000)]
)
def test_the_lower_bound_is_that_of_scipy(bad: int, total: int) -> None:
    level = 2 * norm.cdf(3) - 1

    interval = binomtest(bad, total).proportion_ci(level, method="wilson")

    assert lower_bound(bad, total) == pytest.approx(interval.low, abs=1e-9)


def test_nothing_counted_is_no_verdict() -> None:
    assert lower_bound(0, 0) == 0
    assert Guard(RollbackSpec()).verdict() is None


def test_the_oldest_are_forgotten() -> None:
    counted = Rolling(window=10)

    for bad in [True] * 10 + [False] * 9:
        counted.add(bad)

    assert (counted.bad, counted.total) == (1, 10)


def test_a_canary_as_good_as_the_live_model_is_seldom_ended() -> None:
    random = np.random.default_rng(7)
    ended = 0
    for _ in range(40):
        guard = Guard(RollbackSpec(max_error_rate=0.02, min_agreement=0.8))
        for live, own in random.lognormal(-5, 0.5, (1000, 2)):
            guard.live_answered(live)
            guard.answered(own)
            if random.random() < 0.01:
                guard.failed("by chance")
            guard.compared(1, int(random.random() < 0.9))
            if guard.verdict():
                ended += 1
                break

    assert ended <= 1


@pytest.mark.parametrize(
    ("reason", "fails", "slower", "agrees"),
    [("errors", 0.2, 1, 1.0), ("latency", 0, 4, 1.0), ("agreement", 0, 1, 0.5)],
)
def test_a_worse_canary_is_ended_within_two_hundred_requests(
    reason: str, fails: float, slower: float, agrees: float
) -> None:
    random = np.random.default_rng(7)
    guard = Guard(RollbackSpec())
    for _ in range(200):
        guard.live_answered(random.lognormal(-4, 0.3))
        if random.random() < fails:
            guard.failed("no")
        else:
            guard.answered(slower * random.lognormal(-4, 0.3))
            guard.compared(1, int(random.random() < agrees))

    verdict = guard.verdict()

    assert verdict is not None
    assert verdict.reason == reason


def test_nothing_is_ended_when_it_is_switched_off() -> None:
    guard = Guard(RollbackSpec(auto=False))

    for _ in range(100):
        guard.failed("no")

    assert guard.verdict() is None


def test_what_is_quick_enough_is_never_slow() -> None:
    guard = Guard(RollbackSpec())

    for _ in range(100):
        guard.live_answered(0.0001)
        guard.answered(0.004)

    assert guard.verdict() is None
