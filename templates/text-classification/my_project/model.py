"""The network: a plain LightningModule that knows nothing of mlstack."""

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional


class Net(LightningModule):
    """Looks at three tokens at a time, and takes the strongest answer of a text for each question.

    The network of Kim 2014, small. Token 0 fills up short texts and is never an answer.
    """

    def __init__(
        self,
        vocabulary: int = 400,
        width: int = 64,
        lr: float = 3e-3,
        num_classes: int = 10,
        class_weights: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.class_weights = class_weights  # mlstack fills it in, for train.class_weights
        self.embed = nn.Embedding(vocabulary, width, padding_idx=0)
        self.look = nn.Conv1d(width, 2 * width, kernel_size=3, padding=1)
        self.answer = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * width, num_classes))

    def forward(self, tokens: Tensor) -> Tensor:
        """int32 (batch, tokens) -> logits (batch, classes)."""
        seen = self.look(self.embed(tokens).transpose(1, 2)).relu()  # (batch, 2 width, tokens)
        there = (tokens != 0).unsqueeze(1)
        return self.answer((seen * there).amax(dim=2))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        return self._measure(batch, "train")

    def validation_step(self, batch: list[Tensor], _: int) -> Tensor:
        return self._measure(batch, "val")

    def test_step(self, batch: list[Tensor], _: int) -> Tensor:
        return self._measure(batch, "test")

    def _measure(self, batch: list[Tensor], part: str) -> Tensor:
        tokens, targets = batch
        logits = self(tokens)
        weights = self.class_weights if part == "train" else None
        loss = functional.cross_entropy(logits, targets, weights and logits.new_tensor(weights))
        accuracy = (logits.argmax(dim=1) == targets).float().mean()
        metrics = {f"{part}/loss": loss, f"{part}/acc": accuracy}
        self.log_dict(metrics, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.lr)
