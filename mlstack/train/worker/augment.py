"""Augmentation of whole batches of images, where the batch is: on the GPU when there is one.

What is drawn is a function of seed, epoch and batch and is drawn for the batch of all ranks, so a
run that is gone on with, and one on more ranks, sees the same pictures.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.nn import functional

from mlstack.errors import ConfigError
from mlstack.inputs.tasks import reads_rows
from mlstack.launch.user_code import load_function
from mlstack.train.worker.ranks import Job, Rank

DRAWS = 13  # random numbers of one picture
GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class Preset:
    """How far a picture may be changed; 0 leaves it."""

    turn_deg: float
    move: float  # share of the side
    zoom: float  # 0.1: between 1 / 1.1 and 1.1
    light: float  # share of 255
    contrast: float
    colour: float = 0.0
    flip: bool = False  # left and right
    erase: float = 0.0  # chance that a rectangle is wiped out
    edge: str = "border"  # what lies outside, as grid_sample names it


PRESETS = {
    # What any picture bears, also of digits and letters.
    "basic": Preset(turn_deg=10, move=0.08, zoom=0.1, light=0.1, contrast=0.15),
    # What a photograph bears.
    "photo": Preset(10, 0.1, 0.25, 0.15, 0.25, colour=0.25, flip=True, edge="reflection"),
    # Little data and a large network.
    "strong": Preset(20, 0.15, 0.4, 0.3, 0.4, colour=0.5, flip=True, erase=0.25, edge="reflection"),
}


def installed(job: Job, data: LightningDataModule) -> dict[str, Any]:
    """Give what a data module's hook becomes so that batches of train are augmented.

    Raises:
        ConfigError: the function of `data.augment` is not there, or the data is no images.
    """
    if job.config.data.augment == "none":
        return {}
    if reads_rows(job.config.project.task):
        raise ConfigError(
            "data.augment: rows of a table are not augmented", hint="write `augment: none`"
        )
    hook = "on_after_batch_transfer"
    own = data.on_after_batch_transfer if is_overridden(hook, data) else None
    return {hook: partial(_transferred, augmentation(job), data, own)}


def _transferred(
    augment: "Augment", data: LightningDataModule, own: Any, batch: Any, dataloader_idx: int
) -> Any:
    """Do what the user's own hook does, which Lightning no longer calls; then augment."""
    trainer = data.trainer
    assert trainer is not None
    given = own or trainer.lightning_module.on_after_batch_transfer
    batch = given(batch, dataloader_idx)
    if not trainer.training:
        return batch
    return augment.batch(batch, trainer.current_epoch, trainer.fit_loop.batch_idx + 1)


def augmentation(job: Job) -> "Augment":
    """Load what `data.augment` names.

    Raises:
        ConfigError: its function is not there.
    """
    wanted = job.config.data.augment
    preset = PRESETS.get(wanted)
    if preset is not None:
        return Augment(job, partial(_by_preset, preset, job.rank))
    own = load_function(wanted, Path(job.spec.root), key="data.augment")
    return Augment(job, partial(_by_function, own, job.rank))


def _by_preset(preset: Preset, rank: Rank, images: Tensor, moment: str) -> Tensor:
    """Draw for the batch of all ranks, and change what this rank has of it."""
    generator = torch.Generator().manual_seed(_number(moment))
    draws = torch.rand(len(images) * rank.count, DRAWS, generator=generator)
    return changed(images, preset, draws[rank.number :: rank.count].to(images.device))


def _by_function(
    own: Callable[[Tensor], Tensor], rank: Rank, images: Tensor, moment: str
) -> Tensor:
    """Let the user's function draw from torch's own generator, which is put back after."""
    with torch.random.fork_rng([images.device] if images.is_cuda else []):
        torch.manual_seed(_number(f"{moment} {rank.number}"))
        return own(images)


class Augment:
    """Changes the images of a batch; `change` is given them and the moment, a text."""

    def __init__(self, job: Job, change: Callable[[Tensor, str], Tensor]) -> None:
        self._seed = job.spec.seed
        self._change = change

    def batch(self, batch: Any, epoch: int, number: int) -> Any:
        """Change the images of a batch of train, the first part of it.

        Raises:
            ConfigError: it holds no images.
        """
        if not isinstance(batch, list | tuple) or not is_images(batch[0]):
            raise ConfigError(
                "data.augment: a batch must begin with images, uint8 of shape "
                "(images, height, width, channels)",
                hint="see the template, or write `augment: none`",
            )
        return type(batch)([self.images(batch[0], epoch, number), *batch[1:]])

    def images(self, images: Tensor, epoch: int, number: int) -> Tensor:
        """Change images, uint8 of shape (images, height, width, channels); give as many.

        Raises:
            ConfigError: the function of the user gives something else.
        """
        count = len(images)
        with torch.no_grad():
            found = self._change(images, f"{self._seed} {epoch} {number}")
        if not isinstance(found, Tensor) or len(found) != count or found.dtype != images.dtype:
            raise ConfigError(
                f"data.augment: the function must give {count} images of {images.dtype}",
                hint="it is called as fn(images), uint8 (images, height, width, channels)",
            )
        return found


def is_images(value: Any) -> bool:
    """Tell whether something is a batch of images as mlstack reads them."""
    return (
        isinstance(value, Tensor)
        and value.dtype == torch.uint8
        and value.ndim == 4
        and value.shape[3] in (1, 3)
    )


def changed(images: Tensor, preset: Preset, draws: Tensor) -> Tensor:
    """Move, turn, light and wipe images.

    Args:
        images: uint8, shape (images, height, width, channels).
        preset: how far.
        draws: between 0 and 1, shape (images, 13): what is done to each.

    Returns:
        as `images`.
    """
    x = images.permute(0, 3, 1, 2).float()
    moves = _moves(preset, draws, x.shape[2] / x.shape[3])
    places = functional.affine_grid(moves, list(x.shape), align_corners=False)
    x = functional.grid_sample(x, places, padding_mode=preset.edge, align_corners=False)
    x = _lit(x, preset, draws)
    if preset.erase:
        x = _wiped(x, preset, draws)
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _moves(preset: Preset, draws: Tensor, height_by_width: float) -> Tensor:
    """Give where each picture is read: shape (images, 2, 3), in shares of half a side."""
    around = 2 * draws - 1
    angle = around[:, 0] * math.radians(preset.turn_deg)
    scale = (1 + preset.zoom) ** around[:, 1]
    mirror = torch.where(draws[:, 4] < 0.5, -1.0, 1.0) if preset.flip else torch.ones_like(angle)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    across, down = 2 * preset.move * around[:, 2], 2 * preset.move * around[:, 3]
    upright = [cos * mirror, -sin * height_by_width, across]
    rows = [*upright, sin * mirror / height_by_width, cos, down]
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def _lit(x: Tensor, preset: Preset, draws: Tensor) -> Tensor:
    around = (2 * draws - 1)[:, :, None, None, None]
    if preset.colour and x.shape[1] == 3:
        weights = torch.tensor(GREY, device=x.device)[None, :, None, None]
        grey = (x * weights).sum(dim=1, keepdim=True)
        x = grey + (x - grey) * (1 + preset.colour * around[:, 7])
    middle = x.mean(dim=(1, 2, 3), keepdim=True)
    x = middle + (x - middle) * (1 + preset.contrast * around[:, 5])
    return x + 255 * preset.light * around[:, 6]


def _wiped(x: Tensor, preset: Preset, draws: Tensor) -> Tensor:
    """Fill a rectangle of up to a third of each side with the mean (Zhong et al. 2017)."""
    down = torch.linspace(0, 1, x.shape[2], device=x.device)[None, :, None]
    across = torch.linspace(0, 1, x.shape[3], device=x.device)[None, None, :]
    top, left, tall, wide = (draws[:, place, None, None] for place in (8, 9, 10, 11))
    inside = (down >= top) & (down < top + tall / 3) & (across >= left) & (across < left + wide / 3)
    inside &= draws[:, 12, None, None] < preset.erase
    return torch.where(inside[:, None], x.mean(dim=(1, 2, 3), keepdim=True), x)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
