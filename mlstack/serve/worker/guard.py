"""Judge a canary by what it does beside the live model: errors, latency, agreement.

Each is a share of the newest requests, and leaves its bound only when the lower end of Wilson's
score interval does (E. B. Wilson 1927, z = 3): one failure among a few is no verdict, and a
canary that is looked at all the time is not ended by chance.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from mlstack.records.server import RollbackSpec

Z = 3.0
SLOW_SHARE = 0.05  # of requests that are slower than the live model's 95th percentile by nature
FLOOR_S = 0.005  # what is faster is never slow: the machine itself varies by so much
PATIENCE_S = 1.0  # how long a canary has at least before the live model answers instead
HURRY = 10.0  # times the live model's 95th percentile that it has
LIVE_SAMPLES = 500
LOOK_EVERY = 20  # answers of the live model, between two looks at how long they take


@dataclass(frozen=True)
class Verdict:
    """Why a canary is ended."""

    reason: str  # errors, latency or agreement
    text: str


@dataclass
class Rolling:
    """How many of the newest answers were bad."""

    window: int
    _newest: deque[bool] = field(default_factory=deque)
    bad: int = 0

    def add(self, is_bad: bool) -> None:
        """Count one, and forget the oldest when there are more than the window holds."""
        self._newest.append(is_bad)
        self.bad += is_bad
        if len(self._newest) > self.window:
            self.bad -= self._newest.popleft()

    @property
    def total(self) -> int:
        """Tell how many count."""
        return len(self._newest)

    def says(self, limit: float) -> bool:
        """Tell whether the share of bad ones is certainly above `limit`."""
        return lower_bound(self.bad, self.total) > limit


class Guard:
    """What is known of one canary."""

    def __init__(self, spec: RollbackSpec) -> None:
        self._spec = spec
        self.errors = Rolling(spec.window)
        self.slow = Rolling(spec.window)
        self.unlike = Rolling(spec.window)
        self._live_s: deque[float] = deque(maxlen=LIVE_SAMPLES)
        self._p95_s = 0.0  # of the live model; 0 while too little is known
        self._new = 0
        self.last_error = ""

    def live_answered(self, seconds: float) -> None:
        """Learn how long the live model takes."""
        self._live_s.append(seconds)
        self._new += 1
        if len(self._live_s) >= self._spec.min_requests and self._new >= LOOK_EVERY:
            ordered = sorted(self._live_s)
            self._p95_s = ordered[int(0.95 * (len(ordered) - 1))]
            self._new = 0

    def answered(self, seconds: float) -> None:
        """Count an answer of the canary."""
        self.errors.add(is_bad=False)
        if self._p95_s:
            self.slow.add(seconds > self._slow_s())

    def failed(self, problem: str) -> None:
        """Count a request that the canary failed and the live model answered."""
        self.errors.add(is_bad=True)
        self.last_error = problem

    def compared(self, rows: int, agreeing: int) -> None:
        """Count rows that both have answered."""
        for row in range(rows):
            self.unlike.add(row >= agreeing)

    def patience_s(self) -> float:
        """Say how long a caller waits for the canary before the live model answers instead."""
        return max(PATIENCE_S, HURRY * (self._p95_s or PATIENCE_S))

    def verdict(self) -> Verdict | None:
        """Say whether the canary has left its bounds, and which."""
        spec = self._spec
        if not spec.auto:
            return None
        if self._judges(self.errors, spec.max_error_rate):
            text = f"{self.errors.bad} of {self.errors.total} requests failed"
            return Verdict("errors", f"{text}, the last one: {self.last_error}")
        if self._judges(self.slow, SLOW_SHARE):
            text = f"{self.slow.bad} of {self.slow.total} answers took longer than"
            return Verdict("latency", f"{text} {self._slow_s() * 1000:.3g} ms")
        if self._judges(self.unlike, 1 - spec.min_agreement):
            text = f"{self.unlike.bad} of {self.unlike.total} rows were answered otherwise"
            return Verdict("agreement", f"{text} than by the live model")
        return None

    def _judges(self, counted: Rolling, limit: float) -> bool:
        return counted.total >= self._spec.min_requests and counted.says(limit)

    def _slow_s(self) -> float:
        return max(FLOOR_S, self._spec.max_slowdown * self._p95_s)


def lower_bound(bad: int, total: int) -> float:
    """Give the lower end of Wilson's score interval of a share; 0 when nothing was counted."""
    if not total:
        return 0.0
    share = bad / total
    spread = Z * math.sqrt(share * (1 - share) / total + Z * Z / (4 * total * total))
    return max(0.0, (share + Z * Z / (2 * total) - spread) / (1 + Z * Z / total))
