"""The data module of projects that bring none: images with one label each."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from mlstack.inputs import decoded
from mlstack.inputs.images import ImageSpec, load
from mlstack.inputs.splits import PARTS
from mlstack.records.dataset import read_examples
from mlstack.train.worker.sampling import as_it_is


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
        parts = np.asarray(table["split"].to_pylist())
        targets = torch.from_numpy(table["target"].to_numpy().astype(np.int64))
        read = (
            self._mapped if decoded.has_room(self.examples, table, self.input_spec) else self._files
        )
        self.parts = read(table, {part: np.flatnonzero(parts == part) for part in PARTS}, targets)

    def _mapped(
        self, table: pa.Table, rows: dict[str, np.ndarray], targets: torch.Tensor
    ) -> dict[str, Dataset[Any]]:
        images, places = decoded.images(self.examples, table, self.input_spec)
        whole = torch.from_numpy(images)
        return {
            part: Mapped(whole, torch.from_numpy(places[chosen]), targets[chosen])
            for part, chosen in rows.items()
        }

    def _files(
        self, table: pa.Table, rows: dict[str, np.ndarray], targets: torch.Tensor
    ) -> dict[str, Dataset[Any]]:
        paths: list[str] = table["path"].to_pylist()
        return {
            part: Files([paths[row] for row in chosen], targets[chosen], self.input_spec)
            for part, chosen in rows.items()
        }

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
            return DataLoader(dataset, self.batch_size, shuffle=shuffle, collate_fn=as_it_is)
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
