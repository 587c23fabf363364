"""What Lightning spends around a step, and a small network would pay for.

Lightning calls every hook of every callback in every step, through a context manager of its
profiler, whether or not they do anything: 2 us each, 47 of them with our five callbacks.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.profilers import PassThroughProfiler

IN_A_STEP = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
A_STEP = (
    *IN_A_STEP,
    "on_train_batch_start",
    "on_train_batch_end",
    "on_validation_batch_start",
    "on_validation_batch_end",
    "on_test_batch_start",
    "on_test_batch_end",
)
_NOTHING = nullcontext("")
Some = TypeVar("Some", bound=Callback)


class Unprofiled(PassThroughProfiler):
    """Profiles nothing, without a generator for each thing that it does not profile."""

    def profile(self, action_name: str) -> AbstractContextManager[str]:  # type: ignore[override]
        """Give a context that does nothing."""
        return _NOTHING


def lighten(callback: Some) -> Some:
    """Take away those hooks of a step that do nothing: Lightning leaves out what is no function."""
    for hook in A_STEP:
        if getattr(type(callback), hook) is getattr(Callback, hook):
            setattr(callback, hook, None)
    return callback


def lighten_model(model: LightningModule) -> LightningModule:
    """Do the same for this one object of the user's; Lightning looks at the others itself."""
    for hook in IN_A_STEP:
        if getattr(type(model), hook) is getattr(LightningModule, hook):
            setattr(model, hook, None)
    return model
