"""DP-SGD: no example leaves more in the weights than epsilon and delta allow.

Abadi et al. 2016, through Opacus: the gradient of each example is clipped, noise is added to their
sum. The batches are drawn by Poisson sampling (`sampling.PoissonBatches`), which the accounting
(RDP, Mironov 2017) takes for granted. What was spent is a function of noise, rate and steps, so a
run that is gone on with needs no state of its own; the noise comes from torch's generator, which
every checkpoint holds.
"""

import math
import warnings
from importlib.util import find_spec
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from mlstack.config.train_sections import Privacy
from mlstack.errors import ConfigError, MachineError
from mlstack.train.worker.ranks import Job
from mlstack.train.worker.sampling import PoissonBatches, samplers

SPENT = "privacy/epsilon"
INSTEAD = {
    "BatchNorm": "nn.GroupNorm(8, CHANNELS)",
    "SyncBatchNorm": "nn.GroupNorm(8, CHANNELS)",
    "LSTM": "opacus.layers.DPLSTM",
    "GRU": "opacus.layers.DPGRU",
    "RNN": "opacus.layers.DPRNN",
    "MultiheadAttention": "opacus.layers.DPMultiheadAttention",
}


class Private(Callback):
    """Clips, adds noise, and says after each epoch what was spent.

    Raises:
        ConfigError: the network does not give a gradient of each example, or several ranks share
            the work.
        MachineError: Opacus is not installed.
    """

    def __init__(self, job: Job, wanted: Privacy, model: LightningModule) -> None:
        refuse(job, model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own past
            from opacus.grad_sample import GradSampleHooks  # noqa: PLC0415  an extra, and 4 s

        self._wanted = wanted
        self._epochs = job.config.train.epochs
        self._rate, self._noise = 1.0, math.inf  # until the loader is there
        self._is_seen = False
        GradSampleHooks(model, strict=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the noise between the gradients and each optimizer, which keeps its own state.

        Raises:
            ConfigError: the model takes its steps itself, or delta is too large.
        """
        from opacus.optimizers import DPOptimizer  # noqa: PLC0415  an extra

        if not pl_module.automatic_optimization:
            raise ConfigError(
                "train.privacy: the model optimizes by hand (automatic_optimization = False)",
                hint="leave the steps to the Trainer, or remove train.privacy",
            )
        (drawn,) = samplers(trainer.train_dataloader)
        assert isinstance(drawn, PoissonBatches), "seat() refuses what it cannot draw from"
        _refuse_delta(self._wanted, drawn.size)
        self._rate = min(1.0, drawn.batch / drawn.size)
        self._noise = self._chosen_noise(self._epochs * len(drawn))
        trainer.strategy.optimizers = [
            DPOptimizer(
                one,
                noise_multiplier=self._noise,
                max_grad_norm=self._wanted.max_grad_norm,
                expected_batch_size=drawn.batch,
            )
            for one in trainer.strategy.optimizers
        ]

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See, once, whether each example has a gradient of its own.

        Raises:
            ConfigError: it has none for some of the weights.
        """
        if self._is_seen:
            return
        self._is_seen = True
        without = [
            name
            for name, weight in pl_module.named_parameters()
            if weight.grad is not None and getattr(weight, "grad_sample", None) is None
        ]
        if without:
            raise ConfigError(
                f"train.privacy: no gradient of each example for {', '.join(without[:3])}",
                hint="call the layer that holds it as a module, self.layer(inputs)",
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what was spent so far."""
        pl_module.log(SPENT, self.spent(trainer.global_step))

    def state_dict(self) -> dict[str, Any]:
        """Keep what a run needs that has nothing but its test to do again."""
        return {"rate": self._rate, "noise": self._noise}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what was kept."""
        self._rate, self._noise = state_dict["rate"], state_dict["noise"]

    def spent(self, steps: int) -> float:
        """Give epsilon after a number of steps, at the delta that is wanted."""
        from opacus.accountants import RDPAccountant  # noqa: PLC0415  an extra

        accountant = RDPAccountant()
        accountant.history = [(self._noise, self._rate, steps)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the best order is the smallest
            epsilon: float = accountant.get_epsilon(delta=self._wanted.delta)
        return epsilon

    def _chosen_noise(self, steps: int) -> float:
        """Give the least noise, in parts of max_grad_norm, that keeps epsilon for all steps."""
        from opacus.accountants.utils import get_noise_multiplier  # noqa: PLC0415  an extra

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            noise: float = get_noise_multiplier(
                target_epsilon=self._wanted.epsilon,
                target_delta=self._wanted.delta,
                sample_rate=self._rate,
                steps=steps,
                accountant="rdp",
            )
        return noise


def refuse(job: Job, model: nn.Module) -> None:
    """Refuse what makes an example's gradient depend on others, or cannot be accounted for.

    Raises:
        ConfigError: what, and what to write instead.
        MachineError: Opacus is not installed.
    """
    if find_spec("opacus") is None:
        raise MachineError(
            "train.privacy needs `opacus`, which is not installed",
            hint="pip install 'mlstack[privacy]'",
        )
    if job.rank.count > 1:
        raise ConfigError(
            f"train.privacy: {job.rank.count} ranks", hint="train with --ranks 1, or --gpus 1"
        )
    if job.config.data.sampling != "natural":
        raise ConfigError(
            "train.privacy: batches are drawn by chance, so data.sampling cannot balance them",
            hint="write `sampling: natural`",
        )
    for name, layer in model.named_modules():
        kind = next((k for k in INSTEAD if type(layer).__name__.startswith(k)), None)
        if kind is not None:
            raise ConfigError(
                f"train.privacy: `{name}` is a {type(layer).__name__}, which mixes the examples "
                "of a batch or hides their gradients",
                hint=f"use {INSTEAD[kind]} instead",
            )


def spent_at_end(private: Private | None, steps: int) -> dict[str, float]:
    """Give what a run has spent in all, for its result; nothing for one without privacy."""
    return {SPENT: private.spent(steps)} if private else {}


def _refuse_delta(wanted: Privacy, examples: int) -> None:
    if wanted.delta >= 1 / examples:
        raise ConfigError(
            f"train.privacy.delta is {wanted.delta:g}: with {examples} examples it must be far "
            f"below {1 / examples:.1g}, or one of them may be given away as a whole",
            hint=f"write `delta: {0.1 / examples:.0e}`",
        )
