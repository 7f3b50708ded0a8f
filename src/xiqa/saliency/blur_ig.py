"""Blur integrated gradients: the path leads from a blurred image to the image, and adds no new structure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from scipy.linalg import toeplitz
from torch import Tensor

from xiqa.saliency.explained import Explained, check_images
from xiqa.saliency.gradient_paths import gradients

TRUNCATE = 4.0
"""Half length of the blur's kernel in standard deviations."""


def explain(target: Explained, x: Tensor, steps: int = 100, max_sigma: float = 50.0, h: float = 0.01) -> Tensor:
    """-Σ Δσ · ∂G(σ)x/∂σ ⊙ ∇f(G(σ)x) for σ from 0 to `max_sigma`, (n, c, h, w), in the units of f.

    The sum is taken at the left ends of `steps` equal parts, the derivative as a difference over `h`.

    Args:
        target: what is explained.
        x: (n, c, h, w).
        steps: gradients per image.
        max_sigma: standard deviation of the Gaussian at the far end of the path in pixels.
        h: step of the derivative in pixels.

    Returns:
        Maps; they add up to f(x) - f(G(max_sigma)x) only about, see `completeness_error`.

    Raises:
        ValueError: no steps, or a standard deviation or a step that is not above 0.

    Reference: Xu et al. 2020, "Attribution in scale and space", the definition of BlurIG and its Riemann sum.
    """
    if steps < 1 or not 0 < max_sigma < np.inf or not 0 < h < np.inf:
        raise ValueError(
            f"found steps={steps}, max_sigma={max_sigma}, h={h}, expected at least 1, and two finite numbers above 0; "
            "give the standard deviations in pixels"
        )
    check_images(x)
    exact = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    total = torch.zeros_like(exact, dtype=torch.float64)
    slopes: deque[Tensor] = deque()

    def places() -> Iterator[Tensor]:
        for index in range(steps):
            rows, columns = (_blur_and_change(size, index * max_sigma / steps, h) for size in x.shape[2:])
            blurred, slope = _blurred_and_slope(exact, rows, columns, h)
            slopes.append(slope)
            yield blurred.to(x.dtype)

    for gradient in gradients(target, places()):
        total += slopes.popleft() * gradient
    return (total * (-max_sigma / steps)).to(x.dtype)


def _blurred_and_slope(x: Tensor, rows: np.ndarray, columns: np.ndarray, h: float) -> tuple[Tensor, Tensor]:
    """G(σ)x and (G(σ + h)x - G(σ)x) / h.

    With G = R · C it is R x C and R' x (C + h C') + R x C'. The differences R' and C' are those of the matrices, which
    are taken in float64; differences of blurred float32 images over a small h would be rounding.
    """
    (down, down_change), both = torch.from_numpy(rows).to(x), torch.from_numpy(np.hstack([*columns])).to(x)
    across, across_change = (wide := x @ both).chunk(2, -1)
    blurred, slope = (down @ wide).chunk(2, -1)
    return blurred, slope + down_change @ torch.add(across, across_change, alpha=h)


def _blur_and_change(size: int, sigma: float, h: float) -> np.ndarray:
    """(2, size, size): the matrix that blurs by σ, and its change to σ + h over h."""
    blurring, wider = _matrix(size, sigma), _matrix(size, sigma + h)
    return np.stack([blurring, (wider - blurring) / h])


def completeness_error(target: Explained, x: Tensor, name: str, found: Tensor, max_sigma: float = 50.0) -> Tensor:
    """What the sum of each map lacks to f(x) - f(G(max_sigma)x), (n,) in float64; 0 for infinitely many steps.

    Args:
        target: what is explained.
        x: (n, c, h, w).
        name: not used.
        found: (n, c, h, w) as `explain` returned them, or their sums over channels (n, h, w).
        max_sigma: as given to `explain`.

    Raises:
        ValueError: maps of another number of images.
    """
    check_images(x)
    if found.ndim < 2 or len(found) != len(x):
        raise ValueError(f"maps: found {tuple(found.shape)}, expected {tuple(x.shape)}, a map for each image of x")
    promised = target.value(x).double() - target.value(blur(x, max_sigma)).double()
    return found.double().flatten(1).sum(1) - promised


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of images (n, c, h, w) over rows and columns; zeros lie around them.

    The kernel ends `TRUNCATE` standard deviations from its middle and adds up to 1: scipy's `gaussian_filter` with mode
    "constant". One product of matrices for each axis takes the place of hundreds of taps.
    """
    rows, columns = (torch.from_numpy(_matrix(size, sigma)).to(x.device) for size in x.shape[2:])
    return (rows @ x.double() @ columns).to(x.dtype)


def _matrix(size: int, sigma: float) -> np.ndarray:
    """(size, size) symmetric matrix that blurs a row."""
    distance = np.arange(int(TRUNCATE * sigma + 0.5) + 1)
    kernel = np.exp(-0.5 * (distance / max(sigma, np.finfo(float).tiny)) ** 2)
    kernel /= 2 * kernel.sum() - kernel[0]
    return toeplitz(np.pad(kernel, (0, size))[:size])
