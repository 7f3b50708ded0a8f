"""Integrated gradients from the black image, and from black and white, which share the path from black."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from xiqa.saliency.explained import Explained
from xiqa.saliency.references import baseline_image

BATCH = 8
"""Images of a pass at least: a pass of one image uses two cores, or a GPU, badly; more do not run faster on a CPU."""


def gradients(target: Explained, positions: Iterable[Tensor]) -> Iterator[Tensor]:
    """Gradient at each of many variants (n, c, h, w) of n images, of several variants at a time if n is small."""
    positions = iter(positions)
    for first in positions:
        n = len(first)
        group = [first, *islice(positions, -(-BATCH // n) - 1)]
        of = torch.arange(n, device=first.device).repeat(len(group))
        yield from target.gradient(torch.cat(group), of).split(n)


def integrated(target: Explained, x: Tensor, steps: int, baseline: float | Tensor | None) -> Tensor:
    """(x - x') ⊙ mean of the gradients at the middles of `steps` parts of the line from x' to x, (n, c, h, w).

    Reference: Sundararajan et al. 2017, "Axiomatic attribution for deep networks", equation 1.
    """
    if steps < 1:
        raise ValueError(f"steps: found {steps}, expected at least 1")
    difference = x - baseline_image(x, baseline)
    places = (x - (1 - (index + 0.5) / steps) * difference for index in range(steps))
    return difference * sum(gradients(target, places)) / steps


def maps(
    target: Explained, x: Tensor, names: Sequence[str], steps: int = 25, baseline: float | Tensor | None = None
) -> dict[str, Tensor]:
    """Maps (n, c, h, w) of `integrated_gradients` and `integrated_gradients_bw`.

    Args:
        target: what is explained.
        x: (n, c, h, w).
        names: which of the two.
        steps: gradients per path.
        baseline: of `integrated_gradients`; None: black, the minimum of the image. `_bw` is the mean of the maps from
            black and from white, the maximum of the image.
    """
    found: dict[str, Tensor] = {}
    if baseline is None or "integrated_gradients_bw" in names:
        from_black = integrated(target, x, steps, None)
    if "integrated_gradients" in names:
        found["integrated_gradients"] = from_black if baseline is None else integrated(target, x, steps, baseline)
    if "integrated_gradients_bw" in names:
        white = x.amax((1, 2, 3), keepdim=True)
        found["integrated_gradients_bw"] = (from_black + integrated(target, x, steps, white)) / 2
    return found


def completeness_error(
    target: Explained, x: Tensor, name: str, found: Tensor, baseline: float | Tensor | None = None
) -> Tensor:
    """What the sum of each map (n, h, w) lacks to the promised f(x) - f(x'), or to the mean with white: (n,)."""
    if name == "integrated_gradients_bw":
        return (shortfall(target, x, found, None) + shortfall(target, x, found, x.amax((1, 2, 3), keepdim=True))) / 2
    return shortfall(target, x, found, baseline)


def shortfall(target: Explained, x: Tensor, found: Tensor, baseline: float | Tensor | None) -> Tensor:
    """Sum of each map less f(x) - f(x'), (n,), for maps (n, h, w) or (n, c, h, w) of a path from x' to x."""
    start = baseline_image(x, baseline).contiguous()
    return found.flatten(1).sum(1) - (target.value(x) - target.value(start))
