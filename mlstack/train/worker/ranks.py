"""Which process this is, and how several of them agree."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from mlstack.config.schema import Config
from mlstack.records.run import RunSpec

REACH_S = 60  # how long a rank waits for the others


@dataclass(frozen=True)
class Rank:
    """This process among those of the run."""

    number: int = 0
    count: int = 1
    local_count: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Rank":
        """Read torchelastic's variables; without them there is one rank."""
        count = int(environment.get("WORLD_SIZE", "1"))
        local_count = int(environment.get("LOCAL_WORLD_SIZE", str(count)))
        return cls(int(environment.get("RANK", "0")), count, local_count)


@dataclass(frozen=True)
class Job:
    """A run in the hands of one rank."""

    folder: Path
    spec: RunSpec
    config: Config
    rank: Rank


def reach_all(rank: Rank) -> tuple[int, str]:
    """Add up a one of every rank; give the sum, and what carried it. Every rank calls this.

    Raises:
        RuntimeError: a rank does not answer in time.
    """
    on_gpu = torch.cuda.is_available()
    backend = "nccl" if on_gpu else "gloo"
    distributed.init_process_group(backend, timeout=timedelta(seconds=REACH_S))
    try:
        device = f"cuda:{rank.number % rank.local_count}" if on_gpu else "cpu"
        one = torch.ones(1, device=device)
        distributed.all_reduce(one)
        return int(one.item()), backend
    finally:
        distributed.destroy_process_group()


class Agreement:
    """Tells all ranks in the same step what any one of them was asked.

    A signal reaches each rank in another step; a rank that stopped alone would leave the others
    waiting in the next all-reduce. The answer of step k is known in step k + 1, so that no step
    waits for the slowest rank.
    """

    def __init__(self, rank: Rank) -> None:
        self._rank = rank
        self._group: Any = None
        self._pending: tuple[torch.Tensor, Any] | None = None

    def start(self) -> None:
        """Open a group on the CPU of its own; every rank calls this once, in step."""
        if self._rank.count > 1 and self._group is None:
            self._group = distributed.new_group(backend="gloo")

    def any(self, *, stop: bool, save: bool) -> tuple[bool, bool]:
        """Give whether any rank was asked to stop, or to save, a step ago."""
        if self._rank.count == 1:
            return stop, save
        before = self._take()
        asked = torch.tensor([stop, save], dtype=torch.uint8)
        work = distributed.all_reduce(
            asked, distributed.ReduceOp.MAX, group=self._group, async_op=True
        )
        self._pending = (asked, work)
        return before

    def any_now(self, *, stop: bool) -> bool:
        """Give whether any rank was asked to stop; waits for all ranks."""
        earlier, _ = self.any(stop=stop, save=False)
        now, _ = self._take()
        return stop or earlier or now

    def gather(self, mine: Any) -> list[Any]:
        """Collect one object of each rank, in the order of ranks."""
        if self._rank.count == 1:
            return [mine]
        every: list[Any] = [None] * self._rank.count
        distributed.all_gather_object(every, mine, group=self._group)
        return every

    def first(self, mine: Any) -> Any:
        """Give every rank what rank 0 has."""
        if self._rank.count == 1:
            return mine
        box = [mine]
        distributed.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def _take(self) -> tuple[bool, bool]:
        if self._pending is None:
            return False, False
        answer, work = self._pending
        work.wait()
        self._pending = None
        stop, save = answer.tolist()
        return bool(stop), bool(save)
