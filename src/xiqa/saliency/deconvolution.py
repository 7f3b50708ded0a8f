"""Deconvolution: the gradient of a network whose ReLUs act on what comes back instead of on what went in."""

from __future__ import annotations

from torch import Tensor

from xiqa.saliency import guided_backprop
from xiqa.saliency.explained import Explained


def explain(target: Explained, x: Tensor) -> Tensor:
    """Gradient (n, c, h, w) with the backward pass p · 1[p > 0] of every ReLU; pooling by remembered positions.

    Raises:
        ValueError: the network applies no ReLU.

    Reference: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 2.1.
    """
    return guided_backprop.explain(target, x, rule="deconvolution")
