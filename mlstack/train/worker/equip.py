"""What a network gets for training alone: a compiled forward, less memory, a teacher.

All of it lies on the object that is trained: the user's class, and the weights that are kept, are
as without it.
"""

import functools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from mlstack.config.schema import Config
from mlstack.config.train_sections import Distill
from mlstack.errors import ConfigError, MachineError
from mlstack.records.base import read
from mlstack.records.layout import Layout
from mlstack.records.run import BEST, CHECKPOINTS, SPEC, RunSpec
from mlstack.train.worker import privacy
from mlstack.train.worker.build import build_model
from mlstack.train.worker.checkpoint import read_checkpoint
from mlstack.train.worker.pool import Pool
from mlstack.train.worker.ranks import Job

COMPILERS = ("c++", "g++", "clang++")


def equip(job: Job, model: LightningModule) -> LightningModule:
    """Give a network what `train` asks for.

    Raises:
        ConfigError: the network does not lend itself to it.
        MachineError: there is no C++ compiler.
        DataError: the teacher cannot be read.
    """
    train = job.config.train
    if train.privacy is not None:
        privacy.refuse(job, model)
    if train.checkpoint_activations:
        compute_twice(model)
    if train.compile:
        _need_compiler()
        vars(model)["forward"] = torch.compile(model.forward)
    if train.distill is not None:
        teacher = load_teacher(job, train.distill)
        pool = Pool(job, teacher) if train.distill.unlabeled else None
        learn_from(model, teacher, train.distill, pool)
    return model


def compute_twice(model: LightningModule) -> None:
    """Have each block of the network compute its inner activations again, not keep them.

    A block is a member of a Sequential or a ModuleList that has members itself. Batch norm counts
    the second time for nothing, so the result is the same to the bit.

    Raises:
        ConfigError: the network has no such block.
    """
    blocks = list(blocks_of(model))
    if not blocks:
        raise ConfigError(
            f"train.checkpoint_activations: `{type(model).__name__}` has no blocks",
            hint="put its layers into nn.Sequential or nn.ModuleList, block by block",
        )
    for block in blocks:
        vars(block)["forward"] = functools.partial(_twice, block, block.forward)


def blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    """Find the outermost blocks: members of a Sequential or a ModuleList that have members."""
    for child in module.children():
        inside = isinstance(module, nn.Sequential | nn.ModuleList) and any(child.children())
        if inside and any(True for _ in child.parameters()):
            yield child
        else:
            yield from blocks_of(child)


def _twice(block: nn.Module, given: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not (block.training and torch.is_grad_enabled()):
        return given(*args, **kwargs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _resting(block)

    return checkpoint(given, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextmanager
def _resting(block: nn.Module) -> Iterator[None]:
    """Keep the running figures of batch norm as they are."""
    norms = [one for one in block.modules() if isinstance(one, _NormBase)]
    before = [(one.momentum, one.num_batches_tracked) for one in norms]
    for one in norms:
        one.momentum = 0.0
        if one.num_batches_tracked is not None:
            one.num_batches_tracked = one.num_batches_tracked.clone()
    try:
        yield
    finally:
        for one, (momentum, count) in zip(norms, before, strict=True):
            one.momentum, one.num_batches_tracked = momentum, count


def _need_compiler() -> None:
    named = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ([named] if named else COMPILERS)):
        raise MachineError(
            "train.compile: torch.compile needs a C++ compiler, and there is none",
            hint="apt-get install g++, or write `compile: false`",
        )


def load_teacher(job: Job, wanted: Distill) -> LightningModule:
    """Load the best weights of the run that `train.distill.run` names.

    Raises:
        DataError: the run or its checkpoint cannot be read.
    """
    folder = Layout(Path(job.spec.root)).run(wanted.run)
    spec = read(folder / SPEC, RunSpec)
    theirs = replace(job, folder=folder, spec=spec, config=Config.model_validate(spec.config))
    teacher = build_model(theirs)
    teacher.load_state_dict(read_checkpoint(folder / CHECKPOINTS / BEST)["state_dict"])
    return teacher.eval().requires_grad_(False)


def learn_from(
    model: LightningModule, teacher: LightningModule, wanted: Distill, pool: Pool | None = None
) -> None:
    """Mix the teacher's answers into the loss of each step (Hinton et al. 2015, equation 4).

    The teacher is asked what `training_step` asked the network last, by calling itself; and of a
    pool, as many examples again count as much as those.
    """
    seen: list[tuple[tuple[Any, ...], Any]] = []
    forward, step = model.forward, model.training_step

    def noted(*args: Any) -> Any:
        answer = forward(*args)
        if model.training:
            seen[:] = [(args, answer)]
        return answer

    @functools.wraps(step)
    def training_step(*args: Any, **kwargs: Any) -> Any:
        seen.clear()
        outputs = step(*args, **kwargs)
        if not seen:
            raise ConfigError(
                "train.distill: training_step does not call the network by self(...)",
                hint="compute the logits by self(inputs)",
            )
        ((asked, logits),) = seen
        extra = _distance(logits, teacher.to(model.device)(*asked), wanted.temperature)
        if pool is not None:
            inputs, theirs = pool.batch(model)
            extra = (extra + _distance(model(inputs), theirs, wanted.temperature)) / 2
        model.log("train/distill", extra.detach(), on_step=False, on_epoch=True, sync_dist=True)
        return _mixed(outputs, extra, wanted.weight)

    vars(model).update(forward=noted, training_step=training_step)


def _distance(logits: Any, theirs: Any, temperature: float) -> Tensor:
    """Give the Kullback-Leibler divergence of softened answers, times the temperature squared."""
    if not isinstance(logits, Tensor) or logits.shape != theirs.shape or logits.ndim < 2:
        raise ConfigError(
            "train.distill: network and teacher must both answer with logits of one shape",
            hint="give logits (examples, classes) from forward",
        )
    mine = functional.log_softmax(logits / temperature, dim=1)
    with torch.no_grad():
        wanted = functional.log_softmax(theirs / temperature, dim=1)
    distance = functional.kl_div(mine, wanted, reduction="batchmean", log_target=True)
    return distance * temperature**2


def _mixed(outputs: Any, extra: Tensor, weight: float) -> Any:
    if isinstance(outputs, dict):
        return outputs | {"loss": _mixed(outputs["loss"], extra, weight)}
    return (1 - weight) * outputs + weight * extra
