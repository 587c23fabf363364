"""The data: whatever you do to turn files into tensors. Nothing of mlstack is imported."""

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset


class Data(LightningDataModule):
    """Pixels of the files in a table with the columns path, target and split."""

    def __init__(self, examples: str, batch_size: int = 64) -> None:
        super().__init__()
        self.examples = examples
        self.batch_size = batch_size

    def _load(self, part: str, *, shuffle: bool = False) -> DataLoader:
        rows = pq.read_table(self.examples, filters=[("split", "=", part)])
        opened = [Image.open(p, formats=["PNG", "JPEG"]) for p in rows["path"].to_pylist()]
        pixels = [np.asarray(image.convert("L")) for image in opened]
        images = torch.from_numpy(np.stack(pixels)).unsqueeze(-1)  # (rows, 8, 8, 1)
        targets = torch.tensor(rows["target"].to_pylist())
        return DataLoader(TensorDataset(images, targets), self.batch_size, shuffle=shuffle)

    def train_dataloader(self) -> DataLoader:
        return self._load("train", shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._load("val")

    def test_dataloader(self) -> DataLoader:
        return self._load("test")
