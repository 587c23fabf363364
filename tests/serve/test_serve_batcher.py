"""The queue in front of a model: whose rows are whose, what is refused, what is never run."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from mlstack.serve.worker.answers import Refused
from mlstack.serve.worker.batcher import Arrays, Batcher, Plan


class Doubler:
    """A model that doubles rows, and remembers how it was called."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.calls: list[int] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def run(self, arrays: Arrays) -> Arrays:
        with self.lock:
            self.calls.append(len(arrays[0]))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(self.seconds)
        with self.lock:
            self.at_once -= 1
        return [arrays[0] * 2]


def rows(first: float, count: int) -> Arrays:
    return [np.arange(first, first + count, dtype=np.float64)[:, None]]


def with_batcher(
    model: Doubler,
    plan: Plan,
    act: Callable[[Batcher], Awaitable[None]],
    alone: Doubler | None = None,
) -> None:
    async def main() -> None:
        batcher = Batcher(model.run, plan, lambda *_: None, alone.run if alone else None)
        await act(batcher)

    asyncio.run(main())


def here() -> bool:
    return False


@pytest.mark.parametrize("runners", [1, 2, 3])
@pytest.mark.parametrize("inline_rows", [0, 4, 64])
def test_every_caller_gets_his_own_rows_in_order(runners: int, inline_rows: int) -> None:
    model = Doubler(0.001)
    plan = Plan(max_rows=8, max_queue=4096, runners=runners, inline_rows=inline_rows)

    async def act(batcher: Batcher) -> None:
        sizes = [1, 3, 20, 8, 1, 17, 64, 2] * 5
        jobs = []
        for index, size in enumerate(sizes):
            jobs.append(batcher.submit(rows(1000.0 * index, size), size, here))
            if index % 7 == 0:
                await asyncio.sleep(0)
        for index, (size, job) in enumerate(zip(sizes, jobs, strict=True)):
            (answer,) = await job.done
            assert answer.tolist() == (rows(1000.0 * index, size)[0] * 2).tolist()
        assert batcher.queued_rows == 0

    with_batcher(model, plan, act)
    assert max(model.calls) <= 8
    assert sum(model.calls) == 5 * (1 + 3 + 20 + 8 + 1 + 17 + 64 + 2)


def test_calls_run_side_by_side_and_share_what_is_queued() -> None:
    model = Doubler(0.05)

    async def act(batcher: Batcher) -> None:
        jobs = [batcher.submit(rows(index, 1), 1, here) for index in range(16)]
        await asyncio.gather(*(job.done for job in jobs))

    with_batcher(model, Plan(max_rows=64, max_queue=64, runners=2), act)
    assert model.calls == [8, 8]
    assert model.most_at_once == 2


def test_a_single_request_gets_all_cores() -> None:
    many, alone = Doubler(0.02), Doubler(0.02)

    async def act(batcher: Batcher) -> None:
        await batcher.submit(rows(0, 1), 1, here).done
        jobs = [batcher.submit(rows(index, 1), 1, here) for index in range(8)]
        await asyncio.gather(*(job.done for job in jobs))

    with_batcher(many, Plan(max_rows=64, max_queue=64, runners=2), act, alone)
    assert alone.calls == [1]
    assert many.calls == [4, 4]


def test_what_is_late_gets_504_and_is_not_run() -> None:
    model = Doubler(0.2)

    async def act(batcher: Batcher) -> None:
        first = batcher.submit(rows(0, 1), 1, here)
        await asyncio.sleep(0.02)
        late = batcher.submit(rows(1, 1), 1, here, 0.05)
        patient = batcher.submit(rows(2, 1), 1, here)
        await first.done
        with pytest.raises(Refused) as refused:
            await late.done
        assert refused.value.status == 504
        assert (await patient.done)[0].tolist() == [[4.0]]

    with_batcher(model, Plan(max_rows=1, max_queue=64), act)
    assert model.calls == [1, 1]


def test_what_cannot_be_answered_in_time_is_refused_at_once() -> None:
    model = Doubler(0.1)

    async def act(batcher: Batcher) -> None:
        for _ in range(20):  # it learns what a row takes
            await batcher.submit(rows(0, 1), 1, here).done
        waiting = [batcher.submit(rows(0, 1), 1, here) for _ in range(20)]
        with pytest.raises(Refused) as refused:
            batcher.submit(rows(0, 1), 1, here, 1.0)
        assert refused.value.status == 429
        assert int(dict(refused.value.headers)[b"retry-after"]) >= 2
        batcher.submit(rows(0, 1), 1, here, 60.0).done.cancel()
        for job in waiting:
            job.done.cancel()

    with_batcher(model, Plan(max_rows=1, max_queue=64), act)


def test_an_idle_model_refuses_nothing_however_short_the_time() -> None:
    model = Doubler(0.1)

    async def act(batcher: Batcher) -> None:
        for _ in range(3):
            (answer,) = await batcher.submit(rows(3, 1), 1, here, 0.001 + 10).done
            assert answer.tolist() == [[6.0]]
        batcher.admit(1, 0.0001)

    with_batcher(model, Plan(max_rows=1, max_queue=64), act)


def test_a_call_that_fails_fails_its_own_requests_only() -> None:
    def run(arrays: Arrays) -> Arrays:
        if (arrays[0] < 0).any():
            raise ValueError("negative")
        return arrays

    async def act() -> None:
        batcher = Batcher(run, Plan(max_rows=1, max_queue=8, runners=2), lambda *_: None)
        good, bad = batcher.submit(rows(1, 1), 1, here), batcher.submit(rows(-1, 1), 1, here)
        assert (await good.done)[0].tolist() == [[1.0]]
        with pytest.raises(ValueError, match="negative"):
            await bad.done

    asyncio.run(act())


@pytest.mark.parametrize("inline_rows", [0, 64])
def test_a_request_that_the_model_cannot_answer_costs_those_beside_it_nothing(
    inline_rows: int,
) -> None:
    calls = []

    def run(arrays: Arrays) -> Arrays:
        calls.append(len(arrays[0]))
        if (arrays[0] < 0).any():
            raise ValueError("negative")
        return [arrays[0] * 2]

    async def act() -> None:
        plan = Plan(max_rows=16, max_queue=64, inline_rows=inline_rows)
        batcher = Batcher(run, plan, lambda *_: None)
        jobs = [batcher.submit(rows(place, 2), 2, here) for place in range(5)]
        jobs.append(batcher.submit(rows(-5, 1), 1, here))
        jobs += [batcher.submit(rows(place, 1), 1, here) for place in range(3)]
        answers = await asyncio.gather(*(job.done for job in jobs), return_exceptions=True)

        assert isinstance(answers.pop(5), ValueError)
        jobs.pop(5)
        for job, answer in zip(jobs, answers, strict=True):
            assert not isinstance(answer, BaseException)
            assert answer[0].tolist() == (job.arrays[0] * 2).tolist()

    asyncio.run(act())
    assert calls[0] == 14  # all of them went together


@pytest.mark.parametrize("inline_rows", [0, 64])
@pytest.mark.parametrize("output", [np.array(1.0), np.zeros((1, 2)), np.zeros((5, 2))])
def test_an_output_without_a_row_for_each_row_is_an_error_and_no_wait(
    output: np.ndarray, inline_rows: int
) -> None:
    async def act() -> None:
        plan = Plan(max_rows=16, max_queue=64, inline_rows=inline_rows)
        batcher = Batcher(lambda _: [output], plan, lambda *_: None)
        async with asyncio.timeout(10):
            with pytest.raises(ValueError, match="a call of 3 rows"):
                await batcher.submit(rows(0, 3), 3, here).done

    asyncio.run(act())


@pytest.mark.parametrize("inline_rows", [0, 64])
def test_each_call_is_told_with_the_time_that_its_requests_have_waited(inline_rows: int) -> None:
    told: list[tuple[int, float, list[float]]] = []

    async def act() -> None:
        plan = Plan(max_rows=4, max_queue=64, delay_s=0.05, inline_rows=inline_rows)
        batcher = Batcher(Doubler(0.02).run, plan, lambda *call: told.append(call))
        await asyncio.gather(*(batcher.submit(rows(p, 1), 1, here).done for p in range(2)))

    asyncio.run(act())
    ((count, seconds, waits),) = told
    assert count == len(waits) == 2
    assert 0.02 <= seconds < 5
    assert all(0.04 <= waited < 5 for waited in waits)


def test_a_full_batch_does_not_wait_for_more_rows() -> None:
    async def act(batcher: Batcher) -> None:
        async with asyncio.timeout(10):
            jobs = [batcher.submit(rows(place, 1), 1, here) for place in range(3)]
            await asyncio.sleep(0.01)
            assert model.calls == []
            jobs.append(batcher.submit(rows(3, 1), 1, here))
            await asyncio.gather(*(job.done for job in jobs))

    model = Doubler()
    with_batcher(model, Plan(max_rows=4, max_queue=64, delay_s=60), act)
    assert model.calls == [4]


def test_the_threads_of_a_replaced_model_end_with_its_last_request() -> None:
    async def act() -> int:
        batcher = Batcher(
            Doubler(0.1).run, Plan(max_rows=1, max_queue=8, runners=2), lambda *_: None
        )
        jobs = [batcher.submit(rows(index, 1), 1, here) for index in range(5)]
        del batcher
        for job in jobs:
            await job.done
        await asyncio.sleep(0.1)
        return sum("runner" in thread.name for thread in threading.enumerate())

    before = sum("runner" in thread.name for thread in threading.enumerate())
    assert asyncio.run(act()) <= before
