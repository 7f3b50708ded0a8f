"""OMIG of any torch module: the change of an image along the path of a rising (or falling) explained scalar."""

from __future__ import annotations

from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from xiqa.saliency import omig
from xiqa.saliency.base import Target
from xiqa.saliency.explained import Explained


def explain(
    target: Explained,
    x: Tensor,
    c: float = 1.0,
    steps: int = 50,
    outlier_z: float = 3.0,
    orientation: Literal["towards", "away"] = "towards",
) -> Tensor:
    """OMIG maps Δx = x' - x by `omig.explain`, all channels of an image as one field of components.

    Args:
        target: what is explained.
        x: (n, c, h, w).
        c: length of the path, on the network's input.
        steps: L, number of steps, and of gradients.
        outlier_z: t, cut in standard deviations over all components of one image.
        orientation: "towards" a higher scalar, such as the logit of a class, or "away" from it. The published
            algorithm lowers its scalar: it gets -f for "towards", f for "away".

    Returns:
        Maps (n, c, h, w) in units of the network's input.

    Raises:
        ValueError: c, steps or outlier_z is not positive; no such orientation.

    Reference: Amanova et al. 2022, equations 1-3, algorithm 1.
    """
    if orientation not in ("towards", "away"):
        raise ValueError(f"orientation: found '{orientation}', expected 'towards' or 'away'")
    if x.ndim != 4:
        raise ValueError(f"x: found {tuple(x.shape)}, expected (n, c, h, w)")
    falling = _Falling(target, x, -1 if orientation == "towards" else 1)
    # Members are not asked for, which a module has none of.
    change = omig.explain(cast(Target, falling), falling.to_array(x), c=c, steps=steps, outlier_z=outlier_z)
    return falling.to_tensor(np.asarray(change))


class _Falling:
    """sign · f of an `Explained` for methods that take arrays: channels below each other, (n, c · h, w).

    Args:
        target: what is explained.
        like: (n, c, h, w), shape, device and dtype of the images.
        sign: 1 or -1.
    """

    def __init__(self, target: Explained, like: Tensor, sign: int):
        self.target = target
        self.like = like
        self.sign = sign

    def value(self, x: np.ndarray) -> np.ndarray:
        """sign · f, (n,)."""
        return self.sign * self.target.value(self.to_tensor(x)).cpu().numpy()

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """Its gradient, (n, c · h, w)."""
        return self.sign * self.to_array(self.target.gradient(self.to_tensor(x)))

    def to_array(self, x: Tensor) -> np.ndarray:
        """(n, c, h, w) -> (n, c · h, w); a view for tensors on the CPU."""
        return x.detach().cpu().flatten(1, 2).numpy()

    def to_tensor(self, x: np.ndarray) -> Tensor:
        """(n, c · h, w) -> (n, c, h, w), as the images."""
        return torch.from_numpy(x).reshape(self.like.shape).to(self.like)
