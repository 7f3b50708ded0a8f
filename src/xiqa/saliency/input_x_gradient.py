"""Input × gradient: the normalised image times the gradient of the midpoint."""

from __future__ import annotations

import numpy as np

from xiqa.saliency.base import Target, as_images


def explain(target: Target, x: np.ndarray, members: bool = False) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Input × gradient maps x ⊙ R(x), the share of each pixel in a first-order model of the midpoint.

    Args:
        target: what is explained.
        x: (n, s, s), normalised: 0 is the training mean.
        members: also return the maps of each member.

    Returns:
        Maps (n, s, s) in µm; with `members` also the members' maps (M, n, s, s), whose mean over M is the map.

    Reference: Shrikumar et al. 2016, "Not just a black box", arXiv:1605.01713.
    """
    x = as_images(x)
    if not members:
        return x * target.gradient(x)
    parts = x * target.member_gradients(x)[1]
    return parts.mean(axis=0), parts
