"""What rank 0 shows inside an epoch, and how a test is left when somebody asks for it."""

import math
import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from mlstack.errors import Interrupted, StepError
from mlstack.records.run import Reading, Stepped, append_event
from mlstack.train.worker.probes import tensors
from mlstack.train.worker.ranks import Job, Rank
from mlstack.train.worker.sampling import EpochSampler, samplers
from mlstack.train.worker.stop import StopRequest

STEPPED_EVERY_S = 0.25
LOOK_S = 5.0  # less than the other ranks wait for this one


class Progress(Callback):
    """Appends `Stepped` a few times a second and ends a run whose loss is none, or no number."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._last = -math.inf
        self._has_loss = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See that something learns: for None Lightning puts in an optimizer that does nothing.

        Raises:
            StepError: the model gives no optimizer.
        """
        idle = all(type(one).__name__ == "_MockOptimizer" for one in trainer.optimizers)
        if pl_module.automatic_optimization and idle:
            raise StepError(
                "`configure_optimizers` gives no optimizer, so nothing would be learned",
                hint="return one, or set `self.automatic_optimization = False` and learn by hand",
            )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Report where the run is.

        Raises:
            StepError: the loss is not a number, or a whole epoch had none.
        """
        now = time.monotonic()
        batches = _count(trainer.num_training_batches)
        self._has_loss = self._has_loss or _given(outputs) is not None
        if batch_idx + 1 == batches and not self._has_loss and pl_module.automatic_optimization:
            raise StepError(  # Lightning skips such a step
                "`training_step` gave no loss in a whole epoch, so nothing was learned",
                hint="return the loss",
            )
        if now - self._last < STEPPED_EVERY_S and batch_idx + 1 != batches:
            return
        self._last = now
        loss = loss_of(outputs)
        if math.isnan(loss):
            broken = _broken_batch(trainer.train_dataloader)
            raise StepError(
                f"the loss is not a number at step {trainer.global_step}{broken}",
                hint="clean the data"
                if broken
                else "lower the learning rate; `mlstack train --check` looks for the cause",
            )
        event = Stepped(
            run=self._job.spec.id,
            at=time.time(),
            epoch=trainer.current_epoch + 1,
            step=trainer.global_step,
            batch=batch_idx + 1,
            batches=batches,
            metrics={"loss": loss} if math.isfinite(loss) else {},
        )
        append_event(self._job.folder, event)


class ReadingProgress:
    """Appends `Reading` a few times a second while images are decoded."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._last = -math.inf

    def tell(self, done: int, total: int) -> None:
        """Report how many images are decoded."""
        now = time.monotonic()
        if now - self._last >= STEPPED_EVERY_S or done == total:
            self._last = now
            event = Reading(
                run=self._job.spec.id,
                at=time.time(),
                text="decoding images",
                done=done,
                total=total,
            )
            append_event(self._job.folder, event)


class StopWhileTesting(Callback):
    """Lets a signal end the test after the fit; `--resume` tests again."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop

    def on_test_start(self, *_: Any) -> None:
        """Take the signals back from Lightning."""
        self._stop.install()

    def on_test_batch_end(self, *_: Any, **__: Any) -> None:
        """Leave if asked."""
        if self._stop.asked:
            raise Interrupted("stopped while testing")


def loss_of(outputs: Any) -> float:
    """Read the loss from what a training step gave; infinite when it gave none."""
    found = _given(outputs)
    return float(found) if isinstance(found, torch.Tensor) else math.inf


def _given(outputs: Any) -> Any:
    return outputs.get("loss") if isinstance(outputs, dict) else outputs


def _broken_batch(loader: Any) -> str:
    """Look for a batch that holds no numbers, for some seconds: the run is over anyway.

    Those of all ranks are looked through, in the order that they take turns in.
    """
    began, ranks = time.monotonic(), 1
    for sampler in samplers(loader):
        if isinstance(sampler, EpochSampler):
            ranks, sampler.rank = sampler.rank.count, Rank()
    for number, batch in enumerate(loader):
        for tensor in tensors(batch):
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                return f": batch {number // ranks + 1} of train holds NaN or infinity"
        if time.monotonic() - began > LOOK_S:
            break
    return ""


def _count(batches: float) -> int:
    return int(batches) if math.isfinite(batches) else 0
