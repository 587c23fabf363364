"""The exponential moving average of the weights: what is validated and kept instead of them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class Averaged(WeightAveraging):
    """Lightning's callback, with a decay that grows, so that a short run is no mean of its start.

    The decay of step n is min(decay, (1 + n) / (10 + n)), as TensorFlow's `num_updates` does.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: list[Tensor], current: list[Tensor], updates: Tensor | int) -> None:
            if not averaged[0].is_floating_point():
                torch._foreach_copy_(averaged, current)  # counters of batches
                return
            kept = min(decay, (1 + int(updates)) / (10 + int(updates)))
            torch._foreach_lerp_(averaged, current, 1 - kept)

        super().__init__(multi_avg_fn=average)

    @contextmanager
    def worn(self, model: LightningModule) -> Iterator[None]:
        """Put the average into the model for a block."""
        self._swap_models(model)
        try:
            yield
        finally:
            self._swap_models(model)
