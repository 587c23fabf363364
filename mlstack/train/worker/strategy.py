"""How several ranks share a network: each holds all of it (ddp), or a part of each block (fsdp)."""

from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from mlstack.errors import ConfigError, MachineError
from mlstack.launch.memory import memory
from mlstack.train.worker.equip import blocks_of
from mlstack.train.worker.ranks import Job
from mlstack.train.worker.reduction import ExactDDP, ExactParts, OrderedDDP

COPIES = 4  # of the weights: themselves, gradients, and the two averages of Adam
ROOM = 0.8  # of the memory; the rest is for activations
GIGA = 1e9


def is_sharded(job: Job, model: LightningModule) -> bool:
    """Decide whether each rank holds a part of the network only.

    Raises:
        ConfigError: another setting needs all of it in one place.
        MachineError: it does not fit, however it is shared.
    """
    train, ranks = job.config.train, job.rank.count
    need, room = COPIES * _size_bytes(model), ROOM * _memory_bytes(job)
    wanted = train.strategy == "fsdp" or (train.strategy == "auto" and need > room)
    least = need / ranks if wanted else need
    if least > room:
        raise _too_large(job, least, room)
    if not wanted or ranks == 1:
        return False
    if train.ema is not None:
        raise ConfigError(
            "train.ema: an average of weights that are in parts is not kept",
            hint="leave train.ema out, or write `strategy: ddp`",
        )
    return True


def strategy_of(
    job: Job, *, sharded: bool, by_hand: bool = False
) -> str | DDPStrategy | ModelParallelStrategy:
    """Build Lightning's strategy; who optimizes by hand may step a part of the network."""
    backend = "nccl" if job.spec.gpus else "gloo"
    if job.rank.count == 1:
        return "auto"
    if sharded:
        return ExactParts(
            data_parallel_size=job.rank.count,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,  # one file of plain tensors, as without
            process_group_backend=backend,
        )
    # Batch norm's running figures are not read in training, so they need not be sent in each
    # step; and in validation a rank may have one batch more than another.
    asked: dict[str, Any] = {"broadcast_buffers": False, "find_unused_parameters": by_hand}
    if not job.spec.gpus:
        return OrderedDDP(**asked)
    return ExactDDP(process_group_backend=backend, **asked)


def shard(model: LightningModule) -> None:
    """Have this one network be divided when its strategy sets it up: block by block, then the rest.

    The blocks are those of `equip.blocks_of`; while one computes, the others are in parts
    (Y. Zhao et al., PyTorch FSDP, 2023).
    """
    own = model.configure_model

    def configure_model() -> None:
        own()
        if _is_in_parts(model):
            return  # Lightning calls this before the test, too
        assert model.device_mesh is not None
        mesh = model.device_mesh["data_parallel"]
        for block in blocks_of(model):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)

    vars(model)["configure_model"] = configure_model


def load_weights(model: LightningModule, weights: dict[str, torch.Tensor]) -> None:
    """Load whole weights into a network, in parts or not; every rank calls this."""
    if _is_in_parts(model):
        whole: dict[str, Any] = dict(weights)
        set_model_state_dict(model, whole, options=StateDictOptions(full_state_dict=True))
    else:
        model.load_state_dict(weights)


def _is_in_parts(model: LightningModule) -> bool:
    return any(isinstance(one, DTensor) for one in model.parameters())


def _size_bytes(model: nn.Module) -> int:
    return sum(one.numel() * one.element_size() for one in model.parameters() if one.requires_grad)


def _memory_bytes(job: Job) -> float:
    """Give what one rank may use: its GPU, or its share of the main memory."""
    if job.spec.gpus:
        return float(torch.cuda.mem_get_info()[1])
    return memory().total / job.rank.local_count


def _too_large(job: Job, need: float, room: float) -> MachineError:
    where = "of the GPU" if job.spec.gpus else "of main memory for each rank"
    hint = "write `strategy: fsdp` and train with more GPUs, or make the network smaller"
    return MachineError(
        f"the weights, their gradients and Adam's averages take {need / GIGA:.3g} GB; "
        f"{room / GIGA:.3g} GB {where} are there for them: "
        f"{(need - room) / GIGA:.3g} GB are missing",
        hint=hint,
    )
