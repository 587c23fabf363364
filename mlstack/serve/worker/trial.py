"""A canary on trial: it answers its share, is compared, and judged."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, TypeVar

from mlstack.records.server import RollbackSpec
from mlstack.serve.worker.answers import Refused
from mlstack.serve.worker.compare import Sample, agreeing
from mlstack.serve.worker.guard import Guard
from mlstack.serve.worker.metrics import Metrics
from mlstack.serve.worker.said import log
from mlstack.serve.worker.traffic import Deployed, Traffic

MAX_ROWS = 64  # of a request that the live model is asked too
Answered = TypeVar("Answered")


class Trial:
    """What is known of one canary since it was loaded."""

    def __init__(self, canary: Deployed, spec: RollbackSpec, metrics: Metrics) -> None:
        self.canary = canary
        self.guard = Guard(spec)
        self._metrics = metrics
        self._comparison: asyncio.Task[None] | None = None

    @property
    def number(self) -> int:
        """Give the canary's version."""
        return self.canary.model.number

    async def answer(
        self, by: Callable[[Deployed], Awaitable[Answered]], live: Deployed
    ) -> Answered:
        """Let the canary answer; where it fails or dawdles the live model does, and it is counted.

        What the live model refuses as well is the caller's mistake, not the canary's.
        """
        started = perf_counter()
        try:
            async with asyncio.timeout(self.guard.patience_s()):
                answered = await by(self.canary)
        except TimeoutError:
            problem = f"no answer within {self.guard.patience_s():.3g} s"
        except Exception as error:  # whatever it is: the caller shall not notice
            problem = (str(error).splitlines() or [type(error).__name__])[0][:300]
        else:
            self.guard.answered(perf_counter() - started)
            self._metrics.add("mlstack_canary_answered_total", self.number)
            return answered
        instead = await by(live)
        self.guard.failed(problem)
        self._metrics.add("mlstack_canary_failed_total", self.number)
        return instead

    def compare(self, sample: Sample, live: Deployed) -> None:
        """Ask the live model what the canary has answered, when it has nothing else to do."""
        is_free = self._comparison is None or self._comparison.done()
        if is_free and not live.batcher.queued_rows and sample.rows <= MAX_ROWS:
            self._comparison = asyncio.create_task(self._compared(sample, live))

    async def _compared(self, sample: Sample, live: Deployed) -> None:
        try:
            inputs = await asyncio.to_thread(sample.inputs_for, live.model)
            job = live.batcher.submit(inputs, sample.rows, lambda: False)
            agree = agreeing(sample, live.model, await job.done)
        except Refused:
            return  # full, or another kind of input: nothing can be said
        except Exception as error:  # the live model's own failure is seen where it answers
            log.warning("the canary could not be compared: %s", error)
            return
        same = int(agree.sum())
        self.guard.compared(sample.rows, same)
        self._metrics.add("mlstack_canary_rows_total", self.number, sample.rows)
        self._metrics.add("mlstack_canary_mismatch_total", self.number, sample.rows - same)


async def route(
    traffic: Traffic,
    trial: Trial | None,
    key: str,
    by: Callable[[Deployed], Awaitable[Answered]],
) -> Answered:
    """Let the live model or the canary answer.

    Raises:
        Refused: nothing is loaded yet, or whatever the live model says.
    """
    chosen, live = traffic.pick(key), traffic.live
    assert live is not None  # `pick` refuses otherwise
    if trial is not None and chosen is trial.canary:
        return await trial.answer(by, live)
    started = perf_counter()
    answered = await by(chosen)
    if trial is not None:
        trial.guard.live_answered(perf_counter() - started)
    return answered


def mirror(traffic: Traffic, trial: Trial | None, deployed: Deployed, sample: Sample) -> None:
    """Ask the shadow what the live model has answered; compare what the canary has."""
    if trial is not None and deployed is trial.canary and traffic.live is not None:
        trial.compare(sample, traffic.live)
    elif deployed is traffic.live and (shadow := traffic.shadow_for(sample.prediction_id)):
        shadow.offer(sample)


def describe(traffic: Traffic, trial: Trial | None) -> dict[str, Any]:
    """Tell what stands beside the live model and how it does, since it was loaded."""
    body: dict[str, Any] = {"live": traffic.live.model.number if traffic.live else None}
    if trial is not None:
        guard = trial.guard
        body["canary"] = {
            "version": trial.number,
            "percent": traffic.canary_percent,
            "requests": guard.errors.total,
            "failed": guard.errors.bad,
            "slow": guard.slow.bad,
            "compared": guard.unlike.total,
            "agreed": guard.unlike.total - guard.unlike.bad,
        }
    if (shadow := traffic.shadow) is not None:
        body["shadow"] = {
            "version": shadow.number,
            "percent": traffic.shadow_percent,
            "compared": shadow.rows,
            "agreed": shadow.agreed,
            "failed": shadow.failed,
            "dropped": shadow.dropped,
        }
    return body
