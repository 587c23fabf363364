"""One batch that is trained on for some seconds, and what is seen of it: what checks judge."""

import math
import time
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import Metric

from mlstack.train.worker.callbacks import loss_of
from mlstack.train.worker.means import is_shared
from mlstack.train.worker.ranks import Job

SECONDS = 30.0
STEPS = 400  # on one batch: a small learning rate needs most of them
UNTOLD_STEPS = 40  # where no loss is told that could fall


class Watch(Callback):
    """Notes losses, gradients and modes; stops when the loss has fallen."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.first = math.inf  # the loss before anything was learned, also where a step has many
        self.reached: set[str] = set()
        self.before: dict[str, Tensor] = {}
        self.leap = 0.0  # how far the first step moved the weights, in parts of their size
        self.asked = self.held = 0  # steps but the first; those that began with old gradients
        self.asleep: set[str] = set()  # layers in eval mode while it trains
        self.awake_in_val: set[str] = set()
        self.of_one_rank: set[str] = set()  # names of numbers that would be the first rank's alone
        self._backwards = 0  # of this step
        self._began = time.monotonic()
        self._ended: list[float] = []

    @property
    def step_s(self) -> float:
        """Seconds of a usual step, the first ones left out; 0 when there were too few."""
        ended = self._ended[2:]
        return median(after - before for before, after in pairwise(ended)) if ended[1:] else 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to what is logged: of one process Lightning keeps no sync_dist."""
        own = pl_module.log

        def log(name: str, value: Any, *args: Any, **given: Any) -> None:
            is_one = trainer.evaluating and is_shared(given.get("reduce_fx", "mean"))
            if not (given.get("sync_dist") or isinstance(value, Metric) or is_one):
                self.of_one_rank.add(name)
            own(name, value, *args, **given)

        vars(pl_module)["log"] = log

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the network as it was."""
        vars(pl_module).pop("log", None)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the weights."""
        self.before = {name: p.detach().clone() for name, p in pl_module.named_parameters()}

    def on_train_batch_start(self, *_: Any) -> None:
        """Know the first backward of a step from the others."""
        self._backwards = 0

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Note what the step begins with."""
        self._backwards += 1
        if self._backwards > 1:
            return
        if not self.losses:
            self.first = float(loss.detach())
            return
        self.asked += 1
        given = (p.grad for p in pl_module.parameters() if p.grad is not None)
        self.held += any(bool(one.any()) for one in given)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the gradients."""
        for name, parameter in pl_module.named_parameters():
            gradient = parameter.grad
            if name not in self.reached and gradient is not None and bool(gradient.any()):
                self.reached.add(name)
        if not self.asleep:
            self.asleep = _in_mode(pl_module, training=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Note the loss."""
        self.losses.append(loss_of(outputs))
        self._ended.append(time.monotonic())
        if len(self.losses) == 1 and self._backwards == 1:  # L-BFGS searches in a step
            self.leap = relative_change(self.before, dict(pl_module.named_parameters()))
        fallen = len(self.losses) > 10 and max(self.losses[-3:]) < 0.5 * self.losses[0]
        late = time.monotonic() - self._began > SECONDS
        untold = not pl_module.automatic_optimization and math.isinf(self.losses[-1])
        lost = not math.isfinite(self.losses[-1]) and not untold
        if fallen or late or lost or (untold and len(self.losses) >= UNTOLD_STEPS):
            trainer.should_stop = True

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any
    ) -> None:
        """Note the modes, before Lightning gives back those of the training."""
        self.awake_in_val |= _in_mode(pl_module, training=True)


@dataclass
class Trial:
    """One batch, and what some steps on it showed."""

    job: Job
    model: LightningModule
    batch: Any
    val_batch: Any
    watch: Watch = field(default_factory=Watch)
    trainer: Trainer | None = None


class _Repeated:
    """A batch that is given again and again, each time as it was: a step may write into it."""

    def __init__(self, batch: Any, times: int) -> None:
        self._batch, self._times = batch, times

    def __len__(self) -> int:
        return self._times

    def __getitem__(self, number: int) -> Any:
        return apply_to_collection(self._batch, Tensor, torch.clone)


def again(batch: Any, times: int) -> DataLoader[Any]:
    """Load one batch so many times."""
    # What has a length and is read by index does for a dataset.
    return DataLoader(_Repeated(batch, times), batch_size=None)  # type: ignore[arg-type]


def relative_change(before: dict[str, Tensor], after: dict[str, Tensor]) -> float:
    """Say how far weights have moved, in parts of their size.

    The median of those matrices that began with anything in them; 0 where there is none.
    """
    found = []
    for key, old in before.items():
        size = float(old.norm())
        if old.ndim > 1 and size > 0 and after[key].requires_grad:
            found.append(float((after[key].detach().to(old.device) - old).norm()) / size)
    return sorted(found)[len(found) // 2] if found else 0.0


def _in_mode(model: nn.Module, *, training: bool) -> set[str]:
    return {name for name, module in model.named_modules() if module.training is training}
