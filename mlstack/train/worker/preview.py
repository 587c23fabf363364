"""A sheet of augmented examples: what `data.augment` does, for people to look at."""

import io
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mlstack import files
from mlstack.records.layout import Layout
from mlstack.train.worker.augment import augmentation
from mlstack.train.worker.probes import Verdict
from mlstack.train.worker.ranks import Job

EXAMPLES = 8  # a row each
TIMES = 9  # that each is changed, beside itself as it is
CELL_PX = 72  # the least that a picture is shown at
GAP_PX = 4


def augmented(job: Job, batch: Any) -> Verdict | None:
    """Augment a batch as training will, and draw some of it; None where nothing is augmented.

    Raises:
        ConfigError: the batch holds no images, or the user's function gives none.
    """
    if job.config.data.augment == "none":
        return None
    change = augmentation(job)
    change.batch(batch, 0, 0)  # refuses what is no images
    images = batch[0][:EXAMPLES]
    rows = torch.stack([images, *(change.images(images, 0, number) for number in range(TIMES))], 1)
    path = Layout(Path(job.spec.root)).augmented
    files.write_bytes(path, _drawn(rows))
    moved = float((rows[:, 1:] != rows[:, :1]).flatten(1).float().mean())
    where = path.relative_to(job.spec.root)
    detail = f"{job.config.data.augment} changes {moved:.0%} of the values; look at {where}"
    return Verdict("augmented examples", moved > 0, detail, "does data.augment do anything?")


def _drawn(rows: Tensor) -> bytes:
    """Draw uint8 of shape (examples, times, height, width, channels) as a PNG, a row each."""
    _, _, height, width, channels = rows.shape
    scale = max(1, -(-CELL_PX // max(height, width)))
    cells = rows.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    framed = torch.full(
        (*cells.shape[:2], cells.shape[2] + GAP_PX, cells.shape[3] + GAP_PX, channels),
        255,
        dtype=torch.uint8,
    )
    framed[:, :, : cells.shape[2], : cells.shape[3]] = cells
    sheet = framed.permute(0, 2, 1, 3, 4).flatten(0, 1).flatten(1, 2)
    sheet = torch.cat([sheet[:, : framed.shape[3]], _gap(sheet), sheet[:, framed.shape[3] :]], 1)
    picture = Image.fromarray((sheet[:, :, 0] if channels == 1 else sheet).numpy())
    target = io.BytesIO()
    picture.save(target, "PNG")
    return target.getvalue()


def _gap(sheet: Tensor) -> Tensor:
    """Give what stands between the examples as they are and as they were changed."""
    return torch.full((sheet.shape[0], 3 * GAP_PX, sheet.shape[2]), 255, dtype=torch.uint8)
