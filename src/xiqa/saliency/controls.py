"""Controls: maps that know nothing of the network."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from xiqa.saliency.explained import Explained


def random_map(x: Tensor, seed: int = 0) -> Tensor:
    """Independent uniform numbers in [0, 1), (n, h, w) in the dtype of x.

    Args:
        x: (n, c, h, w). The bytes of an image's channel mean only choose its random stream, so that its map is the same
            in any batch.
        seed: of the random numbers.

    Raises:
        ValueError: x has another shape.
    """
    images = _channel_mean(x)
    maps = np.empty(images.shape, np.float32)
    for image, values in zip(images, maps, strict=True):
        digest = hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()
        rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])
        values[:] = rng.random(image.shape, dtype=np.float32)
    return _as_tensor(maps, x)


def centre_prior(x: Tensor, width: float = 0.25) -> Tensor:
    """A Gaussian exp(-r² / 2σ²) at the image centre, (n, h, w) in (0, 1] in the dtype of x.

    Args:
        x: (n, c, h, w); only its shape counts.
        width: σ as a fraction of the shorter side of the image.

    Raises:
        ValueError: x has another shape; width is not positive.
    """
    if width <= 0:
        raise ValueError(f"width: found {width}, expected a positive fraction of the image side")
    n, height, columns = _channel_mean(x).shape
    sigma = width * min(height, columns)
    row = np.exp(-0.5 * ((np.arange(height) - (height - 1) / 2) / sigma) ** 2)
    column = np.exp(-0.5 * ((np.arange(columns) - (columns - 1) / 2) / sigma) ** 2)
    return _as_tensor(np.broadcast_to(np.outer(row, column).astype(np.float32), (n, height, columns)).copy(), x)


def edges(x: Tensor) -> Tensor:
    """Sobel gradient magnitude of the channel mean, (n, h, w) in units of x per pixel.

    Args:
        x: (n, c, h, w). A ramp of slope 1 per pixel gives 1 in its interior.

    Raises:
        ValueError: x has another shape.
    """
    images = _channel_mean(x)

    # One axis after the other, so that the images of a batch do not mix. The kernel weighs 4 over 2 pixels: 8.
    def derivative(along: int, across: int) -> np.ndarray:
        smooth = ndimage.correlate1d(images, [1, 2, 1], axis=across, mode="nearest")
        return ndimage.correlate1d(smooth, [-1, 0, 1], axis=along, mode="nearest")

    return _as_tensor(np.hypot(derivative(1, 2), derivative(2, 1)) / np.asarray(8, images.dtype), x)


def maps(target: Explained, x: Tensor, names: Sequence[str], seed: int = 0, width: float = 0.25) -> dict[str, Tensor]:
    """The controls `random`, `centre_prior` and `edges` as methods, (n, h, w); the target is not used."""
    make = {
        "random": lambda: random_map(x, seed),
        "centre_prior": lambda: centre_prior(x, width),
        "edges": lambda: edges(x),
    }
    return {name: make[name]() for name in names}


def _channel_mean(x: Tensor) -> np.ndarray:
    if x.ndim != 4:
        raise ValueError(f"x: found {tuple(x.shape)}, expected (n, c, h, w)")
    # By numpy in one memory order: the bytes of an image must not depend on the batch that it lies in.
    return np.ascontiguousarray(x.detach().cpu().numpy()).mean(axis=1)


def _as_tensor(maps: np.ndarray, x: Tensor) -> Tensor:
    return torch.from_numpy(maps).to(x)
