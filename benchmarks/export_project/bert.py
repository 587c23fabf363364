"""DistilBERT of transformers as a user's network, for `benchmarks/export_peers.py`."""

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn import functional
from transformers import DistilBertConfig, DistilBertForSequenceClassification


class Network(LightningModule):
    """Four layers of 256 over 96 tokens; token 0 fills up short texts."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.save_hyperparameters()
        config = DistilBertConfig(
            vocab_size=400, max_position_embeddings=96, dim=256, n_layers=4, n_heads=4,
            hidden_dim=1024, num_labels=num_classes, pad_token_id=0,
        )  # fmt: skip
        self.net = DistilBertForSequenceClassification(config)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.net(tokens.long(), attention_mask=(tokens != 0).long()).logits

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
        return torch.optim.AdamW(self.parameters(), lr=5e-4)
