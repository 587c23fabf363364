"""Networks and data that every side of the benchmark trains: plain torch."""

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

BATCH = {"mlp": 64, "resnet": 32, "resnet18": 32}
STEPS = {"mlp": 1120, "resnet": 100, "resnet18": 120}  # of an epoch
EPOCHS = {"mlp": 2, "resnet": 1, "resnet18": 1}
WIDTH = {"resnet": 32, "resnet18": 64}  # of the first blocks; a half takes a quarter minute
LR = 1e-3


class Block(nn.Module):
    """Two convolutions and a way around them (He et al. 2015)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.around = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.around = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.body(x) + self.around(x))


def network(name: str) -> nn.Module:
    """Build one of them from the same seed."""
    torch.manual_seed(1)
    if name == "mlp":
        return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    first = width = WIDTH[name]
    blocks: list[nn.Module] = [
        nn.Conv2d(3, first, 7, 2, 3, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    for outputs in (first, 2 * first, 4 * first, 8 * first):
        blocks += [Block(width, outputs, 1 if outputs == first else 2), Block(outputs, outputs, 1)]
        width = outputs
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def examples(name: str, batches: int) -> TensorDataset:
    """Make random examples that fill so many batches."""
    own = torch.Generator().manual_seed(2)
    shape = (64,) if name == "mlp" else (3, 64, 64)
    count = batches * BATCH[name]
    inputs = torch.randn(count, *shape, generator=own)
    return TensorDataset(inputs, torch.randint(0, 10, (count,), generator=own))
