"""The network: a plain LightningModule that knows nothing of mlstack."""

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional


class Net(LightningModule):
    """A small convolutional network for small images, grey (1 channel) or RGB (3)."""

    def __init__(self, width=32, lr=3e-3, channels=1, num_classes=10, class_weights=None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.class_weights = class_weights  # mlstack fills it in, for train.class_weights
        self.body = self._body(channels, width, num_classes)

    def _body(self, channels: int, width: int, num_classes: int) -> nn.Module:
        return nn.Sequential(
            self._block(channels, width),
            nn.MaxPool2d(2),
            self._block(width, 2 * width),
            nn.MaxPool2d(2),
            self._block(2 * width, 4 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(4 * width, num_classes),
        )

    def _block(self, inputs: int, outputs: int) -> nn.Module:
        conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (batch, height, width, channels) -> logits (batch, classes); scales here."""
        x = images.permute(0, 3, 1, 2).float() / 255  # (batch, channels, height, width)
        return self.body((x - 0.3) / 0.35)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return self._measure(batch, "train")

    def validation_step(self, batch: list[Tensor], _: int) -> Tensor:
        return self._measure(batch, "val")

    def test_step(self, batch: list[Tensor], _: int) -> Tensor:
        return self._measure(batch, "test")

    def _measure(self, batch: list[Tensor], part: str) -> Tensor:
        logits, targets = self(batch[0]), batch[1]
        weights = self.class_weights if part == "train" else None
        loss = functional.cross_entropy(logits, targets, weights and logits.new_tensor(weights))
        accuracy = (logits.argmax(dim=1) == targets).float().mean()
        metrics = {f"{part}/loss": loss, f"{part}/acc": accuracy}
        self.log_dict(metrics, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.lr)
