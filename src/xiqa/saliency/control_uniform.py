"""Control: a random map, independent of network and image content."""

from __future__ import annotations

import hashlib

import numpy as np

from xiqa.saliency.base import Target, as_images


def explain(target: Target | None, x: np.ndarray, seed: int = 0) -> np.ndarray:
    """Maps of independent uniform numbers in [0, 1).

    Args:
        target: not used.
        x: (n, s, s). Its bytes only choose the random stream, so that the map of an image is the same in any batch.
        seed: of the random numbers.

    Returns:
        Maps (n, s, s) float32.
    """
    x = as_images(x)
    maps = np.empty(x.shape, np.float32)
    for image, values in zip(x, maps, strict=True):
        digest = hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()
        rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])
        values[:] = rng.random(image.shape, dtype=np.float32)
    return maps
