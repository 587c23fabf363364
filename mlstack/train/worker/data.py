"""The data module of projects that bring none: images with one label each."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mlstack.inputs.images import ImageSpec, load
from mlstack.inputs.splits import PARTS
from mlstack.records.dataset import read_examples

IN_MEMORY_BYTES = 1 << 30


class Images(LightningDataModule):
    """Images of one size as uint8 (height, width, channels), kept in memory when they fit.

    Args:
        examples: Parquet file with path, target and split.
        batch_size: of one rank.
        image_size: height and width that every image is resized to.
        channels: 1 is grey, 3 is RGB.
        workers: processes that decode images which do not fit into memory.
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
        """Read the table once, and the images with it when they fit."""
        if self.parts:
            return
        table = read_examples(self.examples)
        split = np.asarray(table["split"].to_pylist())
        paths = np.asarray(table["path"].to_pylist())
        targets = table["target"].to_numpy().astype(np.int64)
        spec = self.input_spec
        fits = len(paths) * spec.height * spec.width * spec.channels <= IN_MEMORY_BYTES
        for part in PARTS:
            rows = split == part
            files = _Files(paths[rows].tolist(), targets[rows], spec)
            self.parts[part] = files.in_memory() if fits else files

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
        processes = 0 if isinstance(dataset, TensorDataset) else self.workers
        return DataLoader(dataset, self.batch_size, shuffle=shuffle, num_workers=processes)


class _Files(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Images decoded when they are asked for."""

    def __init__(self, paths: list[str], targets: np.ndarray, spec: ImageSpec) -> None:
        self.paths = paths
        self.targets = torch.from_numpy(targets)
        self.spec = spec

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(load(self.paths[index], self.spec).copy()), self.targets[index]

    def in_memory(self) -> TensorDataset:
        """Decode everything now; an empty part stays empty."""
        shape = (len(self.paths), self.spec.height, self.spec.width, self.spec.channels)
        images = np.empty(shape, dtype=np.uint8)
        for row, path in enumerate(self.paths):
            images[row] = load(path, self.spec)
        return TensorDataset(torch.from_numpy(images), self.targets)
