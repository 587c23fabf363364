"""The data module of projects that bring none: images with one label each."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from mlstack.inputs import decoded
from mlstack.inputs.images import ImageSpec, load
from mlstack.inputs.splits import PARTS
from mlstack.records.dataset import read_examples


class Images(LightningDataModule):
    """Images of one size as uint8 (height, width, channels), decoded once and then mapped.

    Args:
        examples: Parquet file with path, target and split.
        batch_size: of one rank.
        image_size: height and width that every image is resized to.
        channels: 1 is grey, 3 is RGB.
        workers: processes that decode, where the disk has no room for what is decoded.
    """

    def __init__(
        self,
        examples: str,
        batch_size: int = 64,
        image_size: int = 64,
        channels: int = 3,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.examples = Path(examples)
        self.batch_size = batch_size
        self.workers = workers
        self.input_spec = ImageSpec(height=image_size, width=image_size, channels=channels)
        self.parts: dict[str, Dataset[Any]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read the table once, and decode the images that were not yet."""
        if self.parts:
            return
        table = read_examples(self.examples)
        has_room = decoded.has_room(self.examples, table, self.input_spec)
        for part in PARTS:
            chosen = table.filter(pc.equal(table["split"], part))
            self.parts[part] = self._mapped(chosen) if has_room else self._files(chosen)

    def _mapped(self, chosen: pa.Table) -> "Mapped":
        images, places = decoded.images(self.examples, chosen, self.input_spec)
        return Mapped(torch.from_numpy(images), torch.from_numpy(places), _targets(chosen))

    def _files(self, chosen: pa.Table) -> "Files":
        return Files(chosen["path"].to_pylist(), _targets(chosen), self.input_spec)

    def train_dataloader(self) -> DataLoader[Any]:
        """Give the train part, shuffled."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Give the validation part."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Give the test part."""
        return self._loader("test")

    def _loader(self, part: str, *, shuffle: bool = False) -> DataLoader[Any]:
        dataset = self.parts[part]
        if isinstance(dataset, Mapped):
            return DataLoader(dataset, self.batch_size, shuffle=shuffle, collate_fn=_as_it_is)
        return DataLoader(dataset, self.batch_size, shuffle=shuffle, num_workers=self.workers)


class Mapped(Dataset[Any]):
    """Images that lie decoded in a file, a batch read by one index."""

    def __init__(self, images: torch.Tensor, places: torch.Tensor, targets: torch.Tensor) -> None:
        self.images = images  # uint8 (images, height, width, channels), more than these
        self.places = places  # int64 (examples,), of each example among them
        self.targets = targets

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[self.places[index]], self.targets[index]

    def __getitems__(self, indices: list[int]) -> list[torch.Tensor]:
        chosen = torch.from_numpy(np.array(indices))
        images = self.images.index_select(0, self.places[chosen])
        return [images, self.targets[chosen]]


class Files(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images decoded when they are asked for."""

    def __init__(self, paths: list[str], targets: torch.Tensor, spec: ImageSpec) -> None:
        self.paths = paths
        self.targets = targets
        self.spec = spec

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(load(self.paths[index], self.spec).copy()), self.targets[index]


def _targets(chosen: pa.Table) -> torch.Tensor:
    return torch.from_numpy(chosen["target"].to_numpy().astype(np.int64))


def _as_it_is(batch: Any) -> Any:
    return batch
