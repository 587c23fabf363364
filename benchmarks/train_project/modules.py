"""The same networks as a LightningModule, for mlstack and for Lightning alone."""

import os
import time
from typing import Any

import torch
from marks import mark
from networks import BATCH, LR, STEPS, examples, network
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader


class Net(LightningModule):
    """Logs nothing in a step; the loss of the run comes from mlstack."""

    def __init__(self, name: str = "mlp") -> None:
        super().__init__()
        self.net = network(name)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        self.log("val/loss", functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=LR)

    def on_train_start(self) -> None:
        mark("start")

    def on_train_end(self) -> None:
        mark("end")


class Logging(Net):
    """Logs the loss of every step."""

    def training_step(self, batch: list[Tensor], number: int) -> Tensor:
        loss = super().training_step(batch, number)
        self.log("loss", loss)
        return loss


class First(Net):
    """Notes what everything until the end of the first step has cost; there is no validation."""

    def training_step(self, batch: list[Tensor], number: int) -> Tensor:
        loss = super().training_step(batch, number)
        self.log("val/loss", loss)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.global_step == 1:
            mark("first", ancestors=self.global_rank == 0)


class Hanging(Net):
    """Stops moving in a step of rank 1."""

    def training_step(self, batch: list[Tensor], number: int) -> Tensor:
        if self.global_step == 300 and os.environ["RANK"] == "1":
            mark("hangs")
            time.sleep(600)
        return super().training_step(batch, number)


class Data(LightningDataModule):
    """Random examples in memory."""

    def __init__(self, name: str = "mlp", batch_size: int = 64) -> None:
        super().__init__()
        self.name, self.batch_size = name, batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        whole = examples(self.name, STEPS[self.name])
        return DataLoader(whole, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(examples(self.name, 1), min(self.batch_size, BATCH[self.name]))
