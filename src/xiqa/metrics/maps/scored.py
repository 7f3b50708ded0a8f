"""Whether a map can be scored against a ground truth at all."""

from __future__ import annotations

import numpy as np


def not_scored(saliency: np.ndarray, mask: np.ndarray) -> str:
    """Why a map has no score against this ground truth; "" if it has one.

    Args:
        saliency: (h, w) map.
        mask: (h, w) bool, the ground truth.

    Returns:
        "no ground truth", "non-finite map", "constant map" or "".

    Raises:
        ValueError: map and mask differ in shape, or the mask is not bool.
    """
    if saliency.ndim != 2 or saliency.shape != mask.shape or mask.dtype != bool:
        raise ValueError(
            f"map and mask: found {saliency.shape} and {mask.shape} of {mask.dtype}, expected (h, w) twice and bool; "
            "resize one to the other, compare the mask with a threshold"
        )
    if not mask.any():
        return "no ground truth"
    low, high = saliency.min(), saliency.max()
    if not np.isfinite(low) or not np.isfinite(high):
        return "non-finite map"
    return "constant map" if low == high else ""
