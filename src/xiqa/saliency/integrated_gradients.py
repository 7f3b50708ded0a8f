"""Integrated gradients on the straight line from a baseline to the image."""

from __future__ import annotations

import numpy as np

from xiqa.saliency.base import Target, as_images, like


def explain(
    target: Target,
    x: np.ndarray,
    steps: int = 25,
    baseline: float | np.ndarray = 0.0,
    members: bool = False,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Integrated gradients (x - x') ⊙ mean of the gradients on the line from x' to x.

    The mean is taken at the middles of `steps` equal parts of the line.

    Args:
        target: what is explained.
        x: (n, s, s), normalised; or a tensor (n, c, h, w), whose target gives tensors, as the maps then are.
        steps: m, gradients per image.
        baseline: x', a number or an array that broadcasts to x; 0 is the training mean.
        members: also return the maps of each member.

    Returns:
        Maps (n, s, s) in µm; with `members` also the members' maps (M, n, s, s), whose mean over M is the map.

    Raises:
        ValueError: no steps.

    Reference: Sundararajan et al. 2017, "Axiomatic attribution for deep networks", equation 1.
    """
    if steps < 1:
        raise ValueError(f"steps: found {steps}, expected at least 1")
    x = as_images(x)
    difference = x - like(x, baseline)
    total = 0
    for index in range(steps):
        position = x - (1 - (index + 0.5) / steps) * difference
        total = total + (target.member_gradients(position)[1] if members else target.gradient(position))
    maps = difference * total / steps
    return (maps.mean(axis=0), maps) if members else maps


def completeness_error(
    target: Target, x: np.ndarray, maps: np.ndarray, baseline: float | np.ndarray = 0.0
) -> np.ndarray:
    """What the sum of each map lacks to the promised f(x) - f(x'), (n,) in µm; 0 for infinitely many steps."""
    x = as_images(x)
    start = np.broadcast_to(np.asarray(baseline, x.dtype), x.shape)
    promised = np.asarray(target.value(x), np.float64) - target.value(np.ascontiguousarray(start))
    return maps.sum(axis=(1, 2), dtype=np.float64) - promised
