"""The data: a plain LightningDataModule over the table of examples that mlstack hands over."""

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from mlstack.inputs import columns, tables


class Rows(LightningDataModule):
    """Rows of a table, all in memory.

    mlstack fills in `examples` (a Parquet file with path, row, label, target and split), `label`
    (the column of the classes) and `batch_size` (of one rank); `ignore` comes from `data.args`.
    """

    def __init__(
        self,
        examples: str,
        label: str = "label",
        batch_size: int = 64,
        ignore: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.examples = examples
        self.batch_size = batch_size
        self.left_out = {label, *ignore}
        self.input_spec: tables.TableSpec | None = None
        self.parts: dict[str, TensorDataset] = {}

    def setup(self, stage: str | None = None) -> None:
        if self.parts:
            return
        examples = pq.read_table(self.examples)
        part_of = {
            p: examples.filter(pc.equal(examples["split"], p)) for p in ("train", "val", "test")
        }
        # How a row becomes numbers, in training and in serving: it goes into the model package.
        train = tables.chosen(part_of["train"])
        names = [name for name in train.column_names if name not in self.left_out]
        self.input_spec = columns.learn(train, names)
        for part, chosen in part_of.items():
            inputs = columns.encode(self.input_spec, tables.chosen(chosen))
            targets = chosen["target"].to_numpy().astype(np.int64)
            self.parts[part] = TensorDataset(torch.from_numpy(inputs), torch.from_numpy(targets))

    def train_dataloader(self) -> DataLoader:
        train = self.parts["train"]  # a last batch of one row has no variance to normalise by
        return DataLoader(
            train, self.batch_size, shuffle=True, drop_last=len(train) > self.batch_size
        )

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.parts["val"], self.batch_size)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.parts["test"], self.batch_size)
