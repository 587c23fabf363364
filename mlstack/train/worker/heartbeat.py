"""What a rank says of itself while it works: where it is, and how long it may be silent there.

In the middle of a step the limit is learnt: three median steps and 8.5 seconds (the command needs
up to a second more to end), or twice the longest of the last ones where they differ much. A rank
that computes all the while gets more, for a step may do something rare and long (draw samples,
say), and only the supervisor can see that.
Everything that may take long without being a hang says so: the first steps (compiling, cuDNN's
search), waiting for data, hooks between steps, validation, checkpoints.
"""

import statistics
import sys
import time
from collections import deque
from typing import Any

from pytorch_lightning import Callback

from mlstack.records.heartbeat import Activity, Heart
from mlstack.train.worker.ranks import Job

WARM_UP = 10  # steps of a process that teach nothing
RECENT = 128  # steps that are remembered
LEARN_EVERY = 16  # steps
SLACK_S = 8.5
BUSY_SLACK_S, BUSY_MEDIANS = 60.0, 30
PLACES = 8  # of one step; more than there are activities

Limits = tuple[float, float]  # idle, busy
UNKNOWN: Limits = (600.0, 600.0)
LOADING: Limits = (300.0, 600.0)
SAVING: Limits = (1800.0, 1800.0)
PREPARING: Limits = (3600.0, 3600.0)


class Pace:
    """How long a step may take, learnt from the last ones."""

    def __init__(self) -> None:
        self.limits = UNKNOWN
        self._count = 0
        self._recent: deque[float] = deque(maxlen=RECENT)

    def add(self, step_s: float) -> None:
        """Take in how long a step took."""
        self._count += 1
        if self._count <= WARM_UP:
            return
        self._recent.append(step_s)
        if self._count == WARM_UP + 1 or self._count % LEARN_EVERY == 0:
            self.limits = self._learn()

    def _learn(self) -> Limits:
        if _compiles():  # another shape of batch, and it compiles again
            return UNKNOWN
        median = statistics.median(self._recent)
        idle = max(3 * median + SLACK_S, 2 * max(self._recent))
        return idle, max(idle, min(BUSY_MEDIANS * median + BUSY_SLACK_S, UNKNOWN[1]))


def _compiles() -> bool:
    """Tell whether torch.compile is at work in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return dynamo is not None and bool(dynamo.counters["frames"])


class Heartbeat(Callback):
    """Beats from inside the loops, so that a rank that hangs is seen.

    Args:
        job: the run.
        limit_s: how long any silence may take, in seconds; None learns it.
    """

    def __init__(self, job: Job, limit_s: float | None = None) -> None:
        far = job.rank.local_count < job.rank.count
        self._heart = Heart(job.folder / f"heartbeat-{job.rank.number}", far=far)
        self._fixed: Limits | None = None if limit_s is None else (limit_s, limit_s)
        self._pace = Pace()
        self._batches = 0
        self._began = 0.0

    def on_train_start(self, *_: Any) -> None:
        """Beat: the first batch may take its time."""
        self._rest(Activity.PREPARING, PREPARING)

    def on_train_batch_start(self, *_: Any) -> None:
        """Beat: the batch is here."""
        self._batches += 1
        self._began = time.monotonic()
        self._beat(Activity.FORWARD)

    def on_before_backward(self, *_: Any) -> None:
        """Beat: from here on the ranks wait for each other."""
        self._beat(Activity.BACKWARD)

    def on_after_backward(self, *_: Any) -> None:
        """Beat."""
        self._beat(Activity.UPDATING)

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Beat: the next batch may be long in coming, and hooks do what they want."""
        self._pace.add(time.monotonic() - self._began)
        self._rest(Activity.LOADING, LOADING)

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        """Beat: no step is at work, and hooks do what they want."""
        self._rest(Activity.JUDGING, UNKNOWN)

    on_train_epoch_start = on_train_epoch_end = on_validation_batch_end
    on_validation_start = on_validation_batch_start = on_validation_end = on_validation_batch_end
    on_test_start = on_test_batch_start = on_test_batch_end = on_validation_batch_end

    def on_save_checkpoint(self, *_: Any) -> None:
        """Beat: a large file on a slow disk follows."""
        self._rest(Activity.SAVING, SAVING)

    def _rest(self, activity: Activity, limits: Limits) -> None:
        """Beat behind a step: all that follows it is one place."""
        idle_s, busy_s = self._fixed or limits
        self._heart.beat(self._batches * PLACES, activity, idle_s, busy_s)

    def _beat(self, activity: Activity) -> None:
        """Beat inside a step: a rank in its forward pass is behind one in its backward pass."""
        idle_s, busy_s = self._fixed or self._pace.limits
        place = (self._batches - 1) * PLACES + activity
        self._heart.beat(place, activity, idle_s, busy_s)
