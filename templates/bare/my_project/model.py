"""The network: any LightningModule. Nothing of mlstack is imported."""

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional


class Net(LightningModule):
    """One layer on the pixels: the least that learns something."""

    def __init__(self, lr: float = 0.01, num_classes: int = 10) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.layer = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (batch, 8, 8, 1) -> logits (batch, classes)."""
        return self.layer(images.flatten(1).float() / 255)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return self._measure(batch, "train")

    def validation_step(self, batch: list[Tensor], _: int) -> Tensor:
        return self._measure(batch, "val")

    def test_step(self, batch: list[Tensor], _: int) -> Tensor:
        return self._measure(batch, "test")

    def _measure(self, batch: list[Tensor], part: str) -> Tensor:
        logits = self(batch[0])
        loss = functional.cross_entropy(logits, batch[1])
        accuracy = (logits.argmax(dim=1) == batch[1]).float().mean()
        metrics = {f"{part}/loss": loss, f"{part}/acc": accuracy}
        self.log_dict(metrics, on_epoch=True, on_step=False, sync_dist=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)
