"""A CDCNet as bare convolutions: batch normalisation folded into the weights, for methods that walk the layers."""

from __future__ import annotations

from torch import Tensor, sqrt
from torch.nn import BatchNorm2d, Conv2d

from xiqa.models.cdc_net import CDCNet


def fold(conv: Conv2d, norm: BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what `conv` and then `norm` do in evaluation mode."""
    factor = norm.weight / sqrt(norm.running_var + norm.eps)
    bias = 0 if conv.bias is None else conv.bias
    return conv.weight * factor[:, None, None, None], (bias - norm.running_mean) * factor + norm.bias


def folded_convolutions(member: CDCNet) -> list[tuple[Tensor, Tensor]]:
    """Folded weight (out, in, 3, 3) and bias (out,) of the three convolutions of a member in evaluation mode."""
    return [fold(member.conv1, member.bn1), fold(member.conv2, member.bn2), fold(member.conv3, member.bn3)]
