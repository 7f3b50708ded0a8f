"""Sensitivity analysis: the negative gradient of the midpoint."""

from __future__ import annotations

import numpy as np

from xiqa.saliency.base import Target, as_images


def explain(target: Target, x: np.ndarray, members: bool = False) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Sensitivity maps -R(x): where more intensity lowers the midpoint.

    Args:
        target: what is explained.
        x: (n, s, s), normalised.
        members: also return the maps of each member.

    Returns:
        Maps (n, s, s) in µm per unit of normalised input; with `members` also the members' maps (M, n, s, s), whose
        mean over M is the map.

    Reference: Amanova et al. 2022, section 3 (sensitivity analysis).
    """
    x = as_images(x)
    if not members:
        return -target.gradient(x)
    parts = -target.member_gradients(x)[1]
    return parts.mean(axis=0), parts
