"""DeepFool: nearly the smallest change of pixels that changes a decision, which a person does not see."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from xiqa.counterfactuals.margin import Logits, class_logits, decisions, gradient, lengths, margin

OVERSHOOT = 0.02
MOST_STEPS = 50


class Fooled(NamedTuple):
    """Images (n, ...) that are decided otherwise, and whether they are (n,)."""

    images: Tensor
    valid: Tensor


def deepfool(
    net: Logits, x: Tensor, *, bounds: tuple[float, float] | None = (0.0, 1.0), overshoot: float = OVERSHOOT
) -> Fooled:
    """Steps to the nearest border of the decision, linearised anew at each, until it is crossed.

    Of a linear classifier the first step ends on the border: r = m w / ‖w‖², w = ∇m, of the class with least
    m / ‖w‖.

    Args:
        net: images -> logits.
        x: (n, ...).
        bounds: gray values that an image may have.
        overshoot: by which share the sum of the steps is made longer, so that the border is crossed.

    Reference: Moosavi-Dezfooli et al., DeepFool, CVPR 2016, algorithm 2 (overshoot 0.02, at most 50 steps).
    """
    c = decisions(net, x)
    classes = class_logits(net, x[:1].detach()).shape[1]
    moved, current = torch.zeros_like(x), x
    for _ in range(MOST_STEPS):
        rows = (decisions(net, current) == c).nonzero()[:, 0]
        if not len(rows):
            break
        at, own = current[rows], c[rows]
        best, step = torch.full_like(lengths(at), torch.inf), torch.zeros_like(at)
        for turn in range(1, classes):
            other = (own + turn) % classes
            m = partial(margin, net, c=own, d=other)
            w = gradient(m, at)
            size = lengths(w).clamp_min(torch.finfo(w.dtype).tiny)
            with torch.no_grad():
                distance = m(at).reshape(best.shape) / size
            nearer = distance < best
            step = torch.where(nearer, -distance * w / size, step)
            best = torch.where(nearer, distance, best)
        moved[rows] += step
        current = x + (1 + overshoot) * moved
        if bounds is not None:
            current = current.clamp(*bounds)
    return Fooled(current.detach(), decisions(net, current) != c)
