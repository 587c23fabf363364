"""The data: a plain LightningDataModule over the table of examples that mlstack hands over."""

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from mlstack.inputs import tables, texts, tokens


class Texts(LightningDataModule):
    """Texts of a table, tokenised once and mapped.

    mlstack fills in `examples` (a Parquet file with path, row, label, target and split) and
    `batch_size` (of one rank); the others come from `data.args`.
    """

    def __init__(
        self,
        examples: str,
        text: str = "text",
        vocabulary: int = 400,
        length: int = 96,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        self.examples = examples
        self.text, self.vocabulary, self.length = text, vocabulary, length
        self.batch_size = batch_size
        self.input_spec: texts.TextSpec | None = None
        self.parts: dict[str, TensorDataset] = {}

    def setup(self, stage: str | None = None) -> None:
        if self.parts:
            return
        examples = pq.read_table(self.examples)
        part_of = {
            p: examples.filter(pc.equal(examples["split"], p)) for p in ("train", "val", "test")
        }
        # How a text becomes tokens, in training and in serving: it goes into the model package.
        train = tokens.texts_of(tables.chosen(part_of["train"]), self.text)
        self.input_spec = texts.learn(train, self.text, self.vocabulary, self.length)
        for part, chosen in part_of.items():
            inputs = tokens.encoded(self.examples, self.input_spec, tables.chosen(chosen))
            targets = chosen["target"].to_numpy().astype(np.int64)
            self.parts[part] = TensorDataset(torch.from_numpy(inputs), torch.from_numpy(targets))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.parts["train"], self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.parts["val"], self.batch_size)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.parts["test"], self.batch_size)
