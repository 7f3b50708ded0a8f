"""A small residual network for quick runs on a CPU."""

from __future__ import annotations

from torch import Tensor, nn


class Block(nn.Module):
    """Two 3 x 3 convolutions and a way around them: (n, inputs, h, w) -> (n, outputs, h / stride, w / stride).

    Reference: He et al. 2016, figure 2, with a 1 x 1 convolution around the block where the shape changes (B).
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.act1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act2 = nn.ReLU()
        self.around = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.around = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        """x (n, inputs, h, w) -> (n, outputs, h / stride, w / stride), rounded up."""
        y = self.act1(self.bn1(self.conv1(x)))
        return self.act2(self.bn2(self.conv2(y)) + self.around(x))


class SmallResNet(nn.Module):
    """Stem, four stages of 1, 2, 4 and 8 times `width` channels, global average pooling, one linear layer.

    Args:
        channels: input channels.
        outputs: logits.
        width: channels of the stem and the first stage.
        blocks: residual blocks per stage.
        first_pooling: max-pooling behind the stem. Without it every map is twice as fine (the last one has 1/16 of
            the input's side instead of 1/32), at about four times the computation.
    """

    def __init__(self, channels: int, outputs: int, *, width: int = 16, blocks: int = 1, first_pooling: bool = True):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1) if first_pooling else nn.Identity(),
        )
        stages, inputs = [], width
        for number in range(4):
            stage = []
            for block in range(blocks):
                stage.append(Block(inputs, width * 2**number, stride=2 if number > 0 and block == 0 else 1))
                inputs = width * 2**number
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, outputs)

    def forward_features(self, x: Tensor) -> Tensor:
        """x (n, channels, h, w) -> last feature map (n, 8 width, h / 32, w / 32); 1/16 without the first pooling."""
        return self.stages(self.stem(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Last feature map -> logits (n, outputs), or with `pre_logits` the penultimate features (n, 8 width)."""
        x = x.mean((2, 3))
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """x (n, channels, h, w) -> logits (n, outputs)."""
        return self.forward_head(self.forward_features(x))
