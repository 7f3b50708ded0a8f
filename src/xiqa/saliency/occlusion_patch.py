"""Occlusion of square patches: the change of the midpoint when a patch is wiped out."""

from __future__ import annotations

import numpy as np

from xiqa.saliency.base import Target, as_images


def explain(
    target: Target, x: np.ndarray, patch: int = 20, stride: int = 10, baseline: float = 0.0, batch: int = 32
) -> np.ndarray:
    """Patch occlusion maps: f(x with the patch set to the baseline) - f(x), averaged over the patches on a pixel.

    Patches start at 0, stride, 2·stride, ...; the last ones of a row or column are cut at the image border so that
    every pixel is covered.

    Args:
        target: what is explained; only its values are used.
        x: (n, h, w), normalised.
        patch: side of a patch in pixels.
        stride: distance of neighbouring patches in pixels, at most `patch`.
        baseline: value put into the patch; 0 is the training mean.
        batch: occluded images computed at once.

    Returns:
        Maps (n, h, w) float64 in µm. Positive: without the patch the midpoint is higher (the quality worse).

    Raises:
        ValueError: patch or stride leave pixels uncovered.

    Reference: Zeiler and Fergus 2014; sign as in Amanova et al. 2022, section 3.
    """
    if not 1 <= stride <= patch:
        raise ValueError(f"found patch={patch}, stride={stride}, expected 1 <= stride <= patch: all pixels are covered")
    x = as_images(x)
    height, width = x.shape[1:]
    windows = [
        (slice(top, top + patch), slice(left, left + patch))
        for top in _starts(height, patch, stride)
        for left in _starts(width, patch, stride)
    ]
    coverage = np.zeros((height, width))
    for window in windows:
        coverage[window] += 1
    maps = np.zeros(x.shape)
    before = np.asarray(target.value(x), np.float64)
    for image, value, values in zip(x, before, maps, strict=True):
        for start in range(0, len(windows), batch):
            part = windows[start : start + batch]
            occluded = np.repeat(image[None], len(part), axis=0)
            for copy, window in zip(occluded, part, strict=True):
                copy[window] = baseline
            for window, after in zip(part, np.asarray(target.value(occluded), np.float64), strict=True):
                values[window] += after - value
    return maps / coverage


def _starts(length: int, patch: int, stride: int) -> range:
    """Where patches start so that the last one reaches the end."""
    return range(0, max(length - patch, 0) + stride, stride)
