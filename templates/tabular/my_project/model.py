"""The network: a plain LightningModule that knows nothing of mlstack."""

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional


class Net(LightningModule):
    """Two hidden layers; the first thing it does is to scale each feature by what it has seen."""

    def __init__(
        self,
        features: int = 30,
        width: int = 64,
        lr: float = 3e-3,
        num_classes: int = 2,
        class_weights: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.class_weights = class_weights  # mlstack fills it in, for train.class_weights
        self.body = nn.Sequential(
            nn.BatchNorm1d(features),
            nn.Linear(features, width),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, num_classes),
        )

    def forward(self, rows: Tensor) -> Tensor:
        """float32 (batch, features) -> logits (batch, classes)."""
        return self.body(rows)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return self._measure(batch, "train")

    def validation_step(self, batch: list[Tensor], _: int) -> Tensor:
        return self._measure(batch, "val")

    def test_step(self, batch: list[Tensor], _: int) -> Tensor:
        return self._measure(batch, "test")

    def _measure(self, batch: list[Tensor], part: str) -> Tensor:
        rows, targets = batch
        logits = self(rows)
        weights = self.class_weights if part == "train" else None
        loss = functional.cross_entropy(logits, targets, weights and logits.new_tensor(weights))
        accuracy = (logits.argmax(dim=1) == targets).float().mean()
        metrics = {f"{part}/loss": loss, f"{part}/acc": accuracy}
        self.log_dict(metrics, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.lr)
