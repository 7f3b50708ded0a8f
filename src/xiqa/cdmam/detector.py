"""The detector: its blur, and what its noise is made of."""

from __future__ import annotations

import numpy as np

from xiqa.cdmam import beam
from xiqa.cdmam.phantom import Geometry
from xiqa.config import Detector, Exposure

GRID_TRANSMISSION = 0.7
"""Share of the primary photons that an anti-scatter grid lets through (`physical` noise)."""

STRUCTURE_NOISE = 0.012
"""Standard deviation of the structure noise relative to the signal, before the noise filter (`physical` noise)."""

ELECTRONIC_PHOTONS = 15.0
"""Standard deviation of the electronic noise of a pixel in absorbed photons (`physical` noise)."""


def gaussian_taps(sigma: float) -> np.ndarray:
    """Middle and one half of a sampled Gaussian of sum 1, cut off at four standard deviations as scipy does.

    Args:
        sigma: standard deviation in pixels; 0 gives [1].

    Returns:
        (radius + 1,) float64.
    """
    if sigma <= 0:
        return np.ones(1)
    half = np.exp(-0.5 * (np.arange(int(4 * sigma + 0.5) + 1) / sigma) ** 2)
    return half / (half[0] + 2 * half[1:].sum())


def total_blur_px(geometry: Geometry, detector: Detector) -> float:
    """Standard deviation in pixels of detector blur and focal spot together.

    A focal spot of width f is a box of width f (magnification - 1) on the detector; a Gaussian of the same variance
    stands for it.
    """
    box = detector.focal_spot_mm * (geometry.magnification - 1) / detector.pixel_mm
    return float(np.hypot(detector.blur_px, box / np.sqrt(12)))


def correlation_mm(geometry: Geometry, detector: Detector) -> float:
    """Standard deviation in mm of the blur of a small disc and of the noise together: detector and focal spot, what a
    pixel covers, and the noise filter, as far as kernels sampled at the pixels carry them."""
    kernels = gaussian_taps(total_blur_px(geometry, detector)), gaussian_taps(detector.noise_filter_px)
    variance_px = 1 / 12 + sum(2 * float(np.arange(len(taps)) ** 2 @ taps) for taps in kernels)
    return float(np.sqrt(variance_px)) * detector.pixel_mm


def noise_parameters(exposure: Exposure, detector: Detector, geometry: Geometry) -> tuple[float, float, float, float]:
    """What the noise of a pixel is made of, in counts.

    Args:
        exposure: the setting; its `noise` chooses the model.
        detector: pixel size and scatter decide how many photons a pixel absorbs.
        geometry: absorbers and detector material.

    Returns:
        white, per_count, per_square, electronic: before the noise filter the variance is white² + per_count S +
        per_square S² at S expected counts; electronic is the standard deviation of unfiltered white noise.
        `published`: (noise_level, 0, 0, 0).
    """
    if exposure.noise == "published":
        assert exposure.noise_level is not None, "checked by the configuration"
        return float(exposure.noise_level), 0.0, 0.0, 0.0
    photons = GRID_TRANSMISSION * beam.absorbed_photons_per_mm2(exposure, geometry) * detector.pixel_mm**2
    counts_per_photon = beam.primary_counts(exposure, geometry) / photons
    return 0.0, counts_per_photon, STRUCTURE_NOISE**2, ELECTRONIC_PHOTONS * counts_per_photon
