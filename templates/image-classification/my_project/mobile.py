"""A network for small processors: inverted residuals, as in MobileNetV2 (Sandler et al., 2018).

Of each 3 x 3 convolution, channel by channel, and two of 1 x 1 around it, most work is left out.
"""

from torch import Tensor, nn

from my_project.model import Net

EXPANSION = 4
# channels in units of `width`, blocks, stride of the first one
STAGES = [(1, 1, 1), (1.5, 2, 2), (2.5, 2, 2)]


class Mobile(Net):
    """The same arguments, loss and metrics as `Net`; another body."""

    def _body(self, channels: int, width: int, num_classes: int) -> nn.Module:
        layers, inputs = [convolution(channels, width, 3), nn.ReLU6()], width
        for share, blocks, stride in STAGES:
            outputs = int(share * width)
            for number in range(blocks):
                layers.append(Inverted(inputs, outputs, 1 if number else stride))
                inputs = outputs
        layers += [convolution(inputs, 8 * width, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1)]
        layers += [nn.Flatten(), nn.Dropout(0.1), nn.Linear(8 * width, num_classes)]
        return nn.Sequential(*layers)


class Inverted(nn.Module):
    """Few channels -> many -> few, with a way around where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.is_residual = stride == 1 and inputs == outputs
        hidden = EXPANSION * inputs
        self.body = nn.Sequential(
            convolution(inputs, hidden, 1),
            nn.ReLU6(),
            convolution(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU6(),
            convolution(hidden, outputs, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.is_residual else self.body(x)


def convolution(
    inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1
) -> nn.Module:
    """Make a convolution with its normalisation."""
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))
