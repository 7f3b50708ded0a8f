"""Guided integrated gradients: the path to the image moves the features with the smallest gradients first."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xiqa.saliency.explained import Explained
from xiqa.saliency.references import baseline_image

TOLERANCE = 1e-9
"""A step is over when the L1 distance to the image is this close to the planned one; relative, absolute below 1."""


def explain(
    target: Explained,
    x: Tensor,
    steps: int = 200,
    fraction: float = 0.25,
    max_dist: float = 0.02,
    baseline: float | Tensor | None = None,
) -> Tensor:
    """Sum over an adaptive path of (change of x) ⊙ ∇f, (n, c, h, w), in the units of f.

    Each step shortens the L1 distance to the image by the same amount. It moves the features with the smallest
    gradient, but none leaves the band of `max_dist` around the straight line. Paths are followed in float64.

    Args:
        target: what is explained.
        x: (n, c, h, w).
        steps: gradients per image.
        fraction: share of the features that is moved together, 0-1; 1 moves all that may still move.
        max_dist: half width of the band, 0-1 of the way; 0 is the straight line (integrated gradients at the left end
            of each step), 1 lets features go anywhere between the two images.
        baseline: start of the path, a number or a tensor that broadcasts to x; None: the minimum of each image.

    Raises:
        ValueError: no steps, a fraction or a distance out of range, or a baseline of another shape.

    Reference: Kapishnikov et al. 2021, "Guided integrated gradients: an adaptive path method for removing noise";
    the band stands for its anchor points, as in the code that the authors published.
    """
    if steps < 1 or not 0 < fraction <= 1 or not 0 <= max_dist <= 1:
        raise ValueError(
            f"found steps={steps}, fraction={fraction}, max_dist={max_dist}, expected at least 1, more than 0 and at "
            "most 1, and 0 to 1; give shares, not percent"
        )
    start, line = _line(x, baseline)
    maps = torch.zeros_like(line)
    rows = line.any(1).nonzero()[:, 0]  # an image that is its own baseline has nothing to attribute
    if not len(rows):
        return maps.reshape(x.shape).to(x.dtype)
    start, line = start[rows], line[rows]
    weight = line.abs()
    reached, total = torch.zeros_like(line), maps[rows]
    for step in range(1, steps + 1):
        position = torch.addcmul(start, reached, line).reshape(-1, *x.shape[1:])
        gradient = target.gradient(position.to(x.dtype), rows).flatten(1).double()
        alpha = step / steps
        band = max(alpha - max_dist, 0.0), min(alpha + max_dist, 1.0)
        ahead = _advance(reached, gradient.abs(), weight, band, 1 - alpha, fraction)
        total.addcmul_(ahead - reached, gradient)
        reached = ahead
    maps[rows] = total * line
    return maps.reshape(x.shape).to(x.dtype)


def _line(x: Tensor, baseline: float | Tensor | None) -> tuple[Tensor, Tensor]:
    """Start of the path and the way from there to the image, both (n, features) in float64."""
    x = x.detach()
    start = baseline_image(x, baseline).double().flatten(1)
    return start, x.double().flatten(1) - start


def _advance(
    reached: Tensor, slope: Tensor, weight: Tensor, band: tuple[float, float], remaining: float, fraction: float
) -> Tensor:
    """One step of each image: how far its features have come (n, features), 0-1 of their ways.

    Args:
        reached: (n, features) before the step.
        slope: (n, features) absolute gradient.
        weight: (n, features) L1 length of the way of each feature; 0 for one that has no way.
        band: least and greatest place on the way that a feature may have after the step.
        remaining: share of the whole length that is left after the step.
        fraction: share of the features that is moved together.
    """
    low, high = band
    result = here = reached.clamp(min=low)
    goal = weight.sum(1) * remaining
    gap = torch.linalg.vecdot(weight, 1 - here) - goal
    # L1 length by which each feature may come closer; what cannot move counts as the steepest, and is never chosen.
    rest = weight * (high - here)
    slope = slope.masked_fill(~slope.isfinite() | (rest <= 0), math.inf)
    rank = math.floor((weight.shape[1] - 1) * fraction) + 1
    rows = torch.arange(len(here), device=here.device)
    while True:
        limit = slope.kthvalue(rank, dim=1, keepdim=True).values
        chosen = slope <= limit.clamp(max=torch.finfo(slope.dtype).max)
        room = torch.where(chosen, rest, 0.0).sum(1)
        there = gap.abs() <= TOLERANCE * (goal + gap.clamp(min=0)).clamp(min=1)
        share = torch.where(there, 0.0, gap / room)
        here = torch.where(chosen, torch.lerp(here, here.new_tensor(high), share.clamp(0, 1)[:, None]), here)
        going = (share > 1) & (room > 0)
        if not going.all():
            result[rows] = here
            if not going.any():
                return result
            rows, here, slope, rest, chosen, gap, goal, room = (
                part[going] for part in (rows, here, slope, rest, chosen, gap, goal, room)
            )
        gap = gap - room
        slope.masked_fill_(chosen, math.inf)
