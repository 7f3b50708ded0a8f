"""Means over blocks of pixels, for maps that are kept or drawn smaller; no figure library is needed for it."""

from __future__ import annotations

import numpy as np


def block_mean(image: np.ndarray, factor: int) -> np.ndarray:
    """Reduce an image for display by the mean over factor × factor pixels.

    Args:
        image: (h, w); NaN pixels are left out of the mean.
        factor: pixels per block and axis; what does not fill a block at the right and lower border is left out.

    Returns:
        (h // factor, w // factor) float32; a block of NaN stays NaN.
    """
    if factor == 1:
        return np.asarray(image, np.float32)
    rows, columns = (side // factor for side in image.shape)
    blocks = np.asarray(image[: rows * factor, : columns * factor], np.float32)
    blocks = blocks.reshape(rows, factor, columns, factor)
    missing = np.isnan(blocks)
    if not missing.any():
        return blocks.mean(axis=(1, 3))
    counted = (~missing).sum(axis=(1, 3))
    total = np.where(missing, 0, blocks).sum(axis=(1, 3))
    return np.where(counted > 0, total / np.maximum(counted, 1), np.nan).astype(np.float32)
