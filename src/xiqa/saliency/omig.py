"""OMIG: the change of an image along the path of a rising explained scalar (Amanova 2022, algorithm 1)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from xiqa.saliency.explained import Explained


def explain(
    target: Explained,
    x: Tensor,
    c: float = 1.0,
    steps: int = 50,
    outlier_z: float = 3.0,
    orientation: Literal["towards", "away"] = "towards",
) -> Tensor:
    """OMIG maps Δx = x' - x of a batch of images, all channels of an image as one field of components.

    x' is reached by `steps` steps x ← x + (c / steps) · R(x) along the gradient R of the scalar. From the second
    gradient on, components whose Z-score over their image is beyond `outlier_z` do not move; the first gradient is
    used uncut, as printed. The printed algorithm also estimates a last gradient R(x_L) that it never uses: it is not
    computed here, so the map costs exactly `steps` gradients.

    Args:
        target: what is explained.
        x: (n, c, h, w).
        c: length of the path, on the network's input.
        steps: L, number of steps.
        outlier_z: t, cut in standard deviations (population form, over all components of one image).
        orientation: "towards" a higher scalar, such as the logit of a class, or "away" from it. The published
            algorithm lowers the midpoint of a curve: "towards" the scalar -midpoint.

    Returns:
        Maps (n, c, h, w) in units of the network's input.

    Raises:
        ValueError: c, steps or outlier_z is not positive; no such orientation.

    Reference: Amanova et al. 2022, equations 1-3, algorithm 1.
    """
    return contributions(target, x, c, steps, outlier_z, orientation)[0]


def contributions(
    target: Explained,
    x: Tensor,
    c: float = 1.0,
    steps: int = 50,
    outlier_z: float = 3.0,
    orientation: Literal["towards", "away"] = "towards",
) -> tuple[Tensor, Tensor]:
    """Maps as of `explain`, and what each member of an ensemble contributed; arguments and errors as there.

    Returns:
        Maps (n, c, h, w), and contributions (m, n, c, h, w): the gradients of each member along the common path under
        the common cut; their mean over the members is the map.
    """
    if c <= 0 or steps < 1 or outlier_z <= 0:
        raise ValueError(f"found c={c}, steps={steps}, outlier_z={outlier_z}, expected all of them positive")
    if orientation not in ("towards", "away"):
        raise ValueError(f"orientation: found '{orientation}', expected 'towards' or 'away'")
    if x.ndim != 4:
        raise ValueError(f"x: found {tuple(x.shape)}, expected (n, c, h, w)")
    step = c / steps if orientation == "towards" else -c / steps
    # The change is summed apart from x: one step is often below the float32 resolution of x itself.
    change = parts = torch.zeros(())
    for number in range(steps):
        gradients = target.member_gradients(x + change.to(x))
        gradient = gradients.mean(0)
        if number:
            outliers = torch.from_numpy(find_outliers(gradient.cpu().numpy(), outlier_z)).to(x.device)
            gradient, gradients = gradient.masked_fill(outliers, 0), gradients.masked_fill(outliers, 0)
        change = change.to(gradient) + step * gradient
        parts = parts.to(gradients) + step * gradients
    return change, parts


def find_outliers(gradient: np.ndarray, outlier_z: float) -> np.ndarray:
    """Where the Z-score of a component over its own image is beyond `outlier_z`: (n, ...) -> bool (n, ...)."""
    flat = gradient.reshape(len(gradient), -1)
    mean = flat.mean(axis=1, dtype=np.float64)
    sd = flat.std(axis=1, dtype=np.float64)
    # Two comparisons with thresholds per image: no double-precision copy of the whole batch.
    low = (mean - outlier_z * sd)[:, None]
    high = (mean + outlier_z * sd)[:, None]
    return ((flat < low) | (flat > high)).reshape(gradient.shape)
