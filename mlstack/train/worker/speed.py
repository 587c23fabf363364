"""How fast the steps are, and how much of the time goes into waiting for the loader."""

import time
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from mlstack.records.system import Speed, append_system
from mlstack.train.worker.ranks import Job


class Speedometer(Callback):
    """Appends a `Speed` after each epoch, on rank 0.

    The time of the loader is taken where Lightning fetches a batch: these two methods are its
    own, and where another version does not have them, the wait is simply not known. Per step it
    costs four readings of a clock.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._wait_s: float | None = None
        self._examples = 0
        self._began = self._ended = 0.0
        self._fetch_began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen where batches are fetched."""
        loop: Any = trainer.fit_loop.epoch_loop
        before, after = (getattr(loop, name, None) for name in _FETCH)
        if before is not None and after is not None:
            loop._on_before_fetch, loop._on_after_fetch = self._before(before), self._after(after)
            loop.on_run_start = self._whole(loop.on_run_start)
        self._began = self._ended = time.perf_counter()  # a resumed epoch has no start of its own

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self._examples, self._wait_s = 0, None
        self._began = self._ended = time.perf_counter()
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Count the batch."""
        self._examples += examples_in(batch)
        self._ended = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how it went."""
        seconds = self._ended - self._began
        if not self._examples or seconds <= 0:
            return
        device = pl_module.device
        on_gpu = device.type == "cuda"
        speed = Speed(
            run=self._job.spec.id,
            at=time.time(),
            epoch=trainer.current_epoch + 1,
            step=trainer.global_step,
            examples_per_s=round(self._examples * self._job.rank.count / seconds, 2),
            loader_wait=None if self._wait_s is None else round(min(1, self._wait_s / seconds), 4),
            gpu_memory_bytes=torch.cuda.max_memory_allocated(device) if on_gpu else None,
        )
        append_system(self._job.folder, speed)

    def _before(self, original: Callable[[], None]) -> Callable[[], None]:
        def fetching() -> None:
            original()
            self._fetch_began = time.perf_counter()

        return fetching

    def _after(self, original: Callable[[], None]) -> Callable[[], None]:
        def fetched() -> None:
            self._wait_s = (self._wait_s or 0.0) + time.perf_counter() - self._fetch_began
            original()

        return fetched

    def _whole(self, original: Callable[[Any], None]) -> Callable[[Any], None]:
        """Count the start of the loader's processes, which an epoch begins with, as waiting."""

        def starting(fetcher: Any) -> None:
            self._began = time.perf_counter()  # what was saved before is no training
            original(fetcher)
            self._wait_s = time.perf_counter() - self._began

        return starting


_FETCH = ("_on_before_fetch", "_on_after_fetch")


def examples_in(batch: Any) -> int:
    """Count the examples of a batch: the length of the first tensor in it."""
    if isinstance(batch, torch.Tensor):
        return batch.shape[0] if batch.ndim else 1
    if isinstance(batch, dict):
        batch = batch.values()
    elif not isinstance(batch, list | tuple):
        return 0
    return next((count for one in batch if (count := examples_in(one))), 0)
