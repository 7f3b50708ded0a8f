"""Control: a Gaussian at the image centre, the same for every image."""

from __future__ import annotations

import numpy as np

from xiqa.saliency.base import Target, as_images


def explain(target: Target | None, x: np.ndarray, width: float = 0.25) -> np.ndarray:
    """Maps exp(-r² / 2σ²), r the distance from the image centre.

    Args:
        target: not used.
        x: (n, h, w); only its shape counts.
        width: σ as a fraction of the shorter side of the image.

    Returns:
        Maps (n, h, w) float32 in (0, 1].

    Raises:
        ValueError: width is not positive.
    """
    if width <= 0:
        raise ValueError(f"width: found {width}, expected a positive fraction of the image side")
    n, height, columns = as_images(x).shape
    sigma = width * min(height, columns)
    row = np.exp(-0.5 * ((np.arange(height) - (height - 1) / 2) / sigma) ** 2)
    column = np.exp(-0.5 * ((np.arange(columns) - (columns - 1) / 2) / sigma) ** 2)
    return np.broadcast_to(np.outer(row, column).astype(np.float32), (n, height, columns)).copy()
