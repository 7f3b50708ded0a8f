"""Guided integrated gradients: the path to the image moves the features with the smallest gradients first."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from xiqa.saliency.explained import Explained
from xiqa.saliency.gradient_paths import shortfall
from xiqa.saliency.references import baseline_image


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
    x = x.detach()
    start = baseline_image(x, baseline).double().flatten(1)
    line = x.double().flatten(1) - start
    rows = line.any(1).nonzero()[:, 0]  # an image that is its own baseline has nothing to attribute
    maps = torch.zeros_like(x)
    if not len(rows):
        return maps
    start, line, scratch = start[rows].cpu().numpy(), line[rows].cpu().numpy(), np.empty((3, line.shape[1]))
    paths = [_Path(*ends, scratch) for ends in zip(start, line, strict=True)]
    for step in range(1, steps + 1):
        position = torch.empty(len(paths), *x.shape[1:], dtype=x.dtype)
        for path, image in zip(paths, position, strict=True):
            image.flatten().copy_(torch.from_numpy(path.position()))
        gradient = target.gradient(position.to(x.device), rows).flatten(1).cpu()
        gradient = gradient.to(torch.promote_types(x.dtype, torch.float32)).numpy()  # numpy has no bfloat16
        alpha = step / steps
        band = max(alpha - max_dist, 0.0), min(alpha + max_dist, 1.0)
        for path, slope in zip(paths, gradient, strict=True):
            path.advance(slope, band, 1 - alpha, fraction)
    for row, path in zip(rows, paths, strict=True):
        maps[row] = torch.from_numpy(path.total * path.line).reshape(x.shape[1:])
    return maps


def completeness_error(
    target: Explained, x: Tensor, name: str, found: Tensor, baseline: float | Tensor | None = None
) -> Tensor:
    """What the sum of each map (n, h, w) lacks to the promised f(x) - f(baseline), (n,)."""
    return shortfall(target, x, found, baseline)


class _Path:
    """How far the features of one image have come; in numpy, in place and by the image the numbers stay in the cache.

    Args:
        start: (features,) float64, the baseline.
        line: (features,) float64, from there to the image.
        scratch: (3, features) float64, overwritten.
    """

    def __init__(self, start: np.ndarray, line: np.ndarray, scratch: np.ndarray):
        self.start, self.line, self.scratch = start, line, scratch
        self.length = np.abs(line).sum()
        self.reached, self.total = np.zeros((2, len(line)))

    def position(self) -> np.ndarray:
        """(features,) float64."""
        position = np.multiply(self.reached, self.line, out=self.scratch[0])
        position += self.start
        return position

    def advance(self, gradient: np.ndarray, band: tuple[float, float], remaining: float, fraction: float) -> None:
        """One step.

        Args:
            gradient: (features,).
            band: least and greatest place on its way that a feature may have after the step, 0-1.
            remaining: share of the whole length that is left after the step.
            fraction: share of the features that is moved together.
        """
        (low, high), (left, room, other) = band, self.scratch
        np.maximum(self.reached, low, out=left)
        np.subtract(high, left, out=left)
        np.abs(np.multiply(left, self.line, out=room), out=room)  # L1 length by which each feature may come closer
        gap = room.sum() + self.length * (1 - high - remaining)
        slope = np.abs(gradient)
        slope[~((room > 0) & (slope < np.inf))] = np.inf  # what cannot move is never chosen
        below, limit, share = _chosen(slope, room, gap, math.floor((len(slope) - 1) * fraction))
        np.multiply(slope > limit, share, out=room)
        room += np.multiply(slope > below, 1 - share, out=other)
        left *= room
        np.subtract(high, left, out=left)
        np.subtract(left, self.reached, out=other)
        with np.errstate(invalid="ignore"):
            other *= gradient
        self.total += other
        self.reached[:] = left


def _chosen(slope: np.ndarray, room: np.ndarray, gap: float, rank: int) -> tuple[float, float, float]:
    """Slopes up to `below` take all of their room, those up to `limit` this share of it: together they close the gap.

    Args:
        slope: (features,), not negative; infinite for what stays.
        room: (features,) L1 length.
        gap: L1 length.
        rank: the features that are moved together reach to this place, from 0, in the order of the slopes.

    Returns:
        below, limit, share.
    """
    # Positive numbers lie in the order of their upper 16 bits: one count finds the neighbourhood of every rank.
    upper = np.right_shift(slope.view(f"i{slope.itemsize}"), 8 * slope.itemsize - 16, dtype=np.intp)
    count, closed = (np.append(0, np.bincount(upper, what).cumsum()) for what in (None, room))
    movable = int(np.count_nonzero(slope < np.inf))
    taken: int = 0
    limit, reach = -1.0, 0.0
    below, share = limit, 0.0
    while taken < movable and reach < gap:
        below, before = limit, reach
        place = min(taken + rank, movable - 1)
        bits = np.searchsorted(count, place, side="right") - 1
        near = np.flatnonzero(upper == bits)
        limit = np.partition(slope[near], place - count[bits])[place - count[bits]]
        near = near[slope[near] <= limit]
        taken, reach = count[bits] + len(near), closed[bits] + room[near].sum()
        share = 1.0 if reach <= gap else (gap - before) / (reach - before)
    return below, limit, share
