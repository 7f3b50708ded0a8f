"""A small plain network, without ways around its convolutions, for quick runs on a CPU."""

from __future__ import annotations

from torch import Tensor, nn


class SmallVgg(nn.Module):
    """Five stages of 1, 2, 4, 8 and 16 times `width` channels, global average pooling, one linear layer.

    A stage halves the map (but for the first) and convolves it once, with batch normalisation.

    Args:
        channels: input channels.
        outputs: logits.
        width: channels of the first stage.

    Reference: Simonyan and Zisserman 2015, section 2, with batch normalisation and average pooling at the end.
    """

    def __init__(self, channels: int, outputs: int, *, width: int = 8):
        super().__init__()
        stages, inputs = [], channels
        for number in range(5):
            stages.append(
                nn.Sequential(
                    nn.MaxPool2d(2) if number else nn.Identity(),
                    nn.Conv2d(inputs, width * 2**number, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width * 2**number),
                    nn.ReLU(),
                )
            )
            inputs = width * 2**number
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(inputs, outputs)

    def forward_features(self, x: Tensor) -> Tensor:
        """x (n, channels, h, w) -> last feature map (n, 16 width, h / 16, w / 16)."""
        return self.stages(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Last feature map -> logits (n, outputs), or with `pre_logits` the penultimate features (n, 16 width)."""
        x = x.mean((2, 3))
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """x (n, channels, h, w) -> logits (n, outputs)."""
        return self.forward_head(self.forward_features(x))
