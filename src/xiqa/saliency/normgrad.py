"""NormGrad: the norm of the gradient that a virtual layer behind a layer's output would get at each position."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from xiqa.saliency.explained import Activation
from xiqa.saliency.layer_maps import has_range, min_max


def scaling(layer: Activation) -> Tensor:
    """Virtual scaling of channels: ‖a ⊙ g‖₂ over channels, (b, u, v) of (b, k, u, v)."""
    return (layer.a * layer.g).norm(dim=1)


def conv1x1(layer: Activation) -> Tensor:
    """Virtual 1 × 1 convolution: ‖g aᵀ‖_F = ‖a‖₂ · ‖g‖₂, (b, u, v) of (b, k, u, v)."""
    return layer.a.norm(dim=1) * layer.g.norm(dim=1)


def conv3x3(layer: Activation) -> Tensor:
    """Virtual 3 × 3 convolution (zero padding 1): norm of the 3 × 3 window of a times ‖g‖₂, (b, u, v)."""
    energy = layer.a.square().sum(1, keepdim=True)
    window = functional.avg_pool2d(energy, 3, stride=1, padding=1, divisor_override=1)[:, 0]
    return window.sqrt() * layer.g.norm(dim=1)


def join(maps: Sequence[Tensor]) -> Tensor:
    """Geometric mean over layers of min-maxed maps (n, h, w); a layer without range in an image is left out there.

    Reference: Rebuffi et al. 2020, "There and back again", section 3.4; Özer, section 3.2.
    """
    stacked = torch.stack([min_max(layer) for layer in maps])
    used = torch.stack([has_range(layer) for layer in maps])[:, :, None, None]
    count = used.sum(0)
    mean = torch.where(used, stacked, 1).log().sum(0).div(count.clamp(min=1)).exp()
    return torch.where(stacked.isfinite().all(0), torch.where(count > 0, mean, 0), torch.nan)
