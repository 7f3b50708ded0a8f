"""Guided backpropagation: the gradient of a network whose ReLUs hand back positive signals only."""

from __future__ import annotations

from torch import Tensor

from xiqa.saliency.explained import Explained
from xiqa.saliency.relu_backward import ReluBackward


def explain(target: Explained, x: Tensor, rule: str = "guided") -> Tensor:
    """Gradient (n, c, h, w) with the backward pass p · 1[x > 0] · 1[p > 0] of every ReLU.

    Args:
        target: what is explained.
        x: (n, c, h, w).
        rule: "guided", or "deconvolution" for p · 1[p > 0].

    Raises:
        ValueError: the network applies no ReLU: the map would be the plain gradient.

    Reference: Springenberg et al. 2015, "Striving for simplicity", section 3.4.
    """
    with ReluBackward(rule) as mode:
        gradient = target.gradient(x)
    if not mode.replaced:
        raise ValueError(
            f"{rule} backpropagation: found no ReLU in {type(target.net).__name__}, expected at least one; without it "
            "the map would be the plain gradient: use method 'gradient'"
        )
    return gradient
