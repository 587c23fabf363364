"""YOLO11n-cls of Ultralytics as a user's network, for `benchmarks/export_peers.py`."""

from importlib import metadata
from unittest.mock import patch

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn import functional

version = metadata.version
# On import it asks for torchvision's version, and the network for nothing else of it.
with patch("importlib.metadata.version", lambda of: "0.28" if of == "torchvision" else version(of)):
    from ultralytics.nn.tasks import ClassificationModel


class Network(LightningModule):
    """1.5 million parameters for ten classes; bytes become 0 to 1, as Ultralytics has them."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = ClassificationModel("yolo11n-cls.yaml", nc=num_classes, verbose=False)

    def forward(self, images: Tensor) -> Tensor:
        found = self.net(images.permute(0, 3, 1, 2).float() / 255)
        return found if self.training else found[1]  # it gives (probabilities, logits) then

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
        self.log_dict({f"{part}/loss": loss, f"{part}/acc": accuracy}, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=2e-3)
