"""The data: a plain LightningDataModule over the table of examples that mlstack hands over."""

import numpy as np
import pyarrow.parquet as pq
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from mlstack.inputs import decoded
from mlstack.inputs.images import ImageSpec


class Images(LightningDataModule):
    """Small images, all in memory.

    mlstack fills in `examples` (a Parquet file with path, label, target and split) and
    `batch_size` (of one rank); the other arguments come from `data.args` in mlstack.yaml.
    """

    def __init__(
        self, examples: str, batch_size: int = 64, image_size: int = 16, channels: int = 1
    ) -> None:
        super().__init__()
        self.examples = examples
        self.batch_size = batch_size
        # How bytes become an array, in training and in serving: it goes into the model package.
        self.input_spec = ImageSpec(height=image_size, width=image_size, channels=channels)
        self.parts: dict[str, TensorDataset] = {}

    def setup(self, stage: str | None = None) -> None:
        if self.parts:
            return
        table = pq.read_table(self.examples)
        split = np.asarray(table["split"].to_pylist())
        # Each picture is decoded once; .mlstack/decoded keeps what came out.
        images, places = decoded.images(self.examples, table, self.input_spec)
        targets = table["target"].to_numpy().astype(np.int64)
        for part in ("train", "val", "test"):
            rows = split == part
            self.parts[part] = TensorDataset(
                torch.from_numpy(images[places[rows]]), torch.from_numpy(targets[rows])
            )

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.parts["train"], self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.parts["val"], self.batch_size)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.parts["test"], self.batch_size)
