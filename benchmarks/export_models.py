"""The two networks of `benchmarks/export.py`: a MobileNetV2 and a transformer encoder."""

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

# expansion, channels, blocks, stride of the first one: table 2 of Sandler et al., 2018
BLOCKS = [
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
]  # fmt: skip


def convolution(
    inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1
) -> nn.Module:
    """Make a convolution with its normalisation and activation."""
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU6())


class Inverted(nn.Module):
    """An inverted residual."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.is_residual = stride == 1 and inputs == outputs
        hidden = inputs * expansion
        layers = [convolution(inputs, hidden, 1)] if expansion > 1 else []
        layers.append(convolution(hidden, hidden, 3, stride, groups=hidden))
        layers += [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.is_residual else self.body(x)


class MobileNet(LightningModule):
    """2.2 million parameters for 10 classes."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.save_hyperparameters()
        layers, inputs = [convolution(3, 32, 3, 2)], 32
        for expansion, outputs, blocks, stride in BLOCKS:
            for number in range(blocks):
                step = stride if number == 0 else 1
                layers.append(Inverted(inputs, outputs, step, expansion))
                inputs = outputs
        layers += [convolution(inputs, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.body = nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(1280, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.body((images.permute(0, 3, 1, 2).float() / 255 - 0.3) / 0.35)


class Encoder(LightningModule):
    """Four layers of 256 over 64 patches: 3.2 million parameters."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.save_hyperparameters()
        layer = nn.TransformerEncoderLayer(256, 8, 1024, 0.0, batch_first=True, norm_first=True)
        self.patch = nn.Linear(16, 256)
        self.places = nn.Parameter(0.02 * torch.randn(64, 256))
        self.body = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(256, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = images.float().reshape(-1, 8, 4, 8, 4).permute(0, 1, 3, 2, 4).reshape(-1, 64, 16)
        return self.head(self.body(self.patch(x / 255) + self.places).mean(dim=1))
