"""Maps as the code that Özer released hands them to its Pointing Game; beside ours, never instead of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from xiqa.registry import PUBLISHED_MAPS

PERCENTILE = 99


def published_map(method: str, found: Mapping[str, Tensor]) -> Tensor:
    """The released map of a method: absolute values summed over channels and cut at their 99th percentile.

    A hundredth of the pixels then ties for the peak, and the first of them in raster order is taken; smoothing finds
    where they lie close together. The released code replaces the activations of every network after it has hooked
    them: its guided backpropagation is the gradient, of which it keeps the positive part, and its guided Grad-CAM the
    gradient times Grad-CAM. So it is for networks without a ReLU, for which ours refuses both methods.

    Args:
        method: one of `config.PUBLISHED_MAPS`.
        found: the maps that it is made of: gradient and input_x_gradient (n, c, h, w), grad_cam (n, h, w).

    Returns:
        (n, h, w), at least 0.

    Reference: github.com/canerozer/explainable-iqa (Özer); convert_to_grayscale, GuidedBackprop.hook_layers.
    """
    parts = found[PUBLISHED_MAPS[method][0]]
    if method == "guided_backprop":
        parts = parts.clamp(min=0)
    elif method == "guided_grad_cam":
        parts = parts * found["grad_cam"][:, None]
    total = parts.abs().sum(1)
    top = np.array([np.percentile(one.cpu().numpy(), PERCENTILE) for one in total])
    return total.minimum(total.new_tensor(top)[:, None, None])
