"""OMIG: the change of an image along the path of falling midpoint (Amanova 2022, algorithm 1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from xiqa.saliency.base import Target, as_images


def explain(
    target: Target,
    x: np.ndarray,
    c: float = 1.0,
    steps: int = 50,
    outlier_z: float = 3.0,
    members: bool = False,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """OMIG maps Δx = x' - x of a batch of images.

    x' is reached by `steps` steps x ← x - (c / steps) · R(x) along the gradient R of the midpoint. From the second
    gradient on, components whose Z-score over their image is beyond `outlier_z` do not move; the first gradient is
    used uncut, as printed. The printed algorithm also estimates a last gradient R(x_L) that it never uses: it is not
    computed here, so the map costs exactly `steps` gradients.

    Args:
        target: what is explained.
        x: (n, s, s), normalised.
        c: length of the path, on the normalised input.
        steps: L, number of steps.
        outlier_z: t, cut in standard deviations (population form, over the pixels of one image).
        members: also return what each member of the ensemble contributed.

    Returns:
        Maps (n, s, s) in units of the normalised input, in the dtype of the target's gradients. With `members` also
        contributions (M, n, s, s): the gradients of each member along the common path under the common cut; their
        mean over M is the map.

    Raises:
        ValueError: c, steps or outlier_z is not positive.

    Reference: Amanova et al. 2022, equations 1-3, algorithm 1.
    """
    if c <= 0 or steps < 1 or outlier_z <= 0:
        raise ValueError(f"found c={c}, steps={steps}, outlier_z={outlier_z}, expected all of them positive")
    x = as_images(x)
    step = c / steps
    # The change is summed apart from x: one step is often below the float32 resolution of x itself.
    change: Any = None
    contributions: Any = None
    for index in range(steps):
        position = x if change is None else x + change
        if members:
            parts = target.member_gradients(position)[1]
            gradient = parts.mean(axis=0)
        else:
            gradient = target.gradient(position)
        scale = np.asarray(-step, gradient.dtype)
        if index == 0:
            change = scale * gradient
            contributions = scale * parts if members else None
            continue
        outliers = find_outliers(gradient, outlier_z)
        change += scale * np.where(outliers, 0, gradient)
        if members:
            contributions += scale * np.where(outliers, 0, parts)
    return (change, contributions) if members else change


def find_outliers(gradient: np.ndarray, outlier_z: float) -> np.ndarray:
    """Where the Z-score of a component over its own image is beyond `outlier_z`: (n, s, s) -> bool (n, s, s)."""
    flat = gradient.reshape(len(gradient), -1)
    mean = flat.mean(axis=1, dtype=np.float64)
    sd = flat.std(axis=1, dtype=np.float64)
    # Two comparisons with thresholds per image: no double-precision copy of the whole batch.
    low = (mean - outlier_z * sd)[:, None]
    high = (mean + outlier_z * sd)[:, None]
    return ((flat < low) | (flat > high)).reshape(gradient.shape)
