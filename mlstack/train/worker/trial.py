"""One batch that is trained on for some seconds, and what is seen of it: what checks judge."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from mlstack.train.worker.callbacks import loss_of
from mlstack.train.worker.ranks import Job

SECONDS = 30.0


class Watch(Callback):
    """Notes losses and which parameters get a gradient; stops when the loss has fallen."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.reached: set[str] = set()
        self.before: dict[str, Tensor] = {}
        self._began = time.monotonic()
        self._ended: list[float] = []

    @property
    def step_s(self) -> float:
        """Seconds of a step, the first ones left out; 0 when there were too few."""
        ended = self._ended[2:]
        return (ended[-1] - ended[0]) / (len(ended) - 1) if len(ended) > 1 else 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the weights."""
        self.before = {name: p.detach().clone() for name, p in pl_module.named_parameters()}

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the gradients."""
        for name, parameter in pl_module.named_parameters():
            gradient = parameter.grad
            if name not in self.reached and gradient is not None and bool(gradient.any()):
                self.reached.add(name)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Note the loss."""
        self.losses.append(loss_of(outputs))
        self._ended.append(time.monotonic())
        fallen = len(self.losses) > 10 and max(self.losses[-3:]) < 0.5 * self.losses[0]
        late = time.monotonic() - self._began > SECONDS
        untold = not pl_module.automatic_optimization and math.isinf(self.losses[-1])
        if fallen or late or not (math.isfinite(self.losses[-1]) or untold):
            trainer.should_stop = True


@dataclass
class Trial:
    """One batch, and what some steps on it showed."""

    job: Job
    model: LightningModule
    batch: Any
    val_batch: Any
    watch: Watch = field(default_factory=Watch)
    trainer: Trainer | None = None
