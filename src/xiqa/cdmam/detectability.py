"""How well a matched observer sees a disc: an analytic cross-check of curves that were read from images."""

from __future__ import annotations

import numpy as np

from xiqa.cdmam import beam
from xiqa.cdmam.curve import THRESHOLD_DETECTABILITY
from xiqa.cdmam.detector import gaussian_taps, noise_parameters, total_blur_px
from xiqa.cdmam.phantom import Geometry
from xiqa.cdmam.projection import disc_cover
from xiqa.config import Detector, Exposure

# A disc lies anywhere on the pixels: d' of discs not much larger than a pixel depends on where by up to 15 %. By the
# symmetry of pixels and disc these four places stand for sixteen evenly spread ones.
_PHASES = [(x, y) for x in (0.125, 0.375) for y in (0.125, 0.375)]


def detectability(
    exposure: Exposure,
    detector: Detector,
    geometry: Geometry,
    diameter_mm: float,
    thickness_um: float,
    prewhitening: bool = False,
) -> float:
    """Signal-to-noise ratio d' of a matched observer for one disc on an even background.

    Args:
        exposure, detector, geometry: as in `xiqa.cdmam.simulator.simulate`.
        diameter_mm: disc diameter in the phantom.
        thickness_um: its gold thickness.
        prewhitening: True for the ideal observer, False for one that multiplies with the blurred disc as it is.

    Returns:
        d', the mean over the places that the disc's centre may have on its pixel.

    Reference: International Commission on Radiation Units and Measurements, Report 54 (1996).
    """
    contrast = float(beam.gold_contrast(exposure, np.array([thickness_um]), geometry)[0])
    found = []
    for phase in _PHASES:
        signal, spectrum = _disc_and_noise(exposure, detector, geometry, diameter_mm, phase)
        power = np.abs(np.fft.fft2(signal * contrast)) ** 2 / signal.size
        found.append(np.sum(power / spectrum) ** 0.5 if prewhitening else power.sum() / (power * spectrum).sum() ** 0.5)
    return float(np.mean(found))


def detectability_threshold_um(
    exposure: Exposure,
    detector: Detector,
    geometry: Geometry,
    diameter_mm: np.ndarray,
    prewhitening: bool = False,
) -> np.ndarray:
    """Gold thickness at which d' is 1.235, one per diameter: a cross-check of read-out curves, never a label.

    Args:
        exposure, detector, geometry, prewhitening: as in `detectability`.
        diameter_mm: (n,) disc diameters in the phantom.

    Returns:
        (n,) float64 thickness in µm, not held to the phantom's range; inf where no thickness is enough.
    """
    grid = np.concatenate([[0.0], np.geomspace(1e-4, 50, 600)])
    contrast = beam.gold_contrast(exposure, grid, geometry)
    found = []
    for diameter in np.atleast_1d(diameter_mm):
        per_contrast = detectability(exposure, detector, geometry, float(diameter), 1.0, prewhitening)
        per_contrast /= float(beam.gold_contrast(exposure, np.array([1.0]), geometry)[0])
        found.append(np.interp(THRESHOLD_DETECTABILITY / per_contrast, contrast, grid, right=np.inf))
    return np.array(found)


def _disc_and_noise(exposure, detector, geometry, diameter_mm, phase) -> tuple[np.ndarray, np.ndarray]:
    """Counts that a disc of contrast 1 takes away (n, n), and the power spectrum of the noise in counts² (n, n)."""
    radius = diameter_mm * geometry.magnification / detector.pixel_mm / 2
    size = 2 * int(radius + 16)
    x, y = phase
    _, _, patch = disc_cover(x, y, radius, 2)
    cover = np.zeros((size, size))
    cover[: patch.shape[0], : patch.shape[1]] = patch
    taps, filtered = (
        np.outer(transfer, transfer)
        for transfer in (
            _transfer(gaussian_taps(total_blur_px(geometry, detector)), size),
            _transfer(gaussian_taps(detector.noise_filter_px), size),
        )
    )
    primary = beam.primary_counts(exposure, geometry)
    background = primary * (1 + detector.scatter_to_primary)
    white, per_count, per_square, electronic = noise_parameters(exposure, detector, geometry)
    variance = white**2 + per_count * background + per_square * background**2
    blurred = np.fft.ifft2(np.fft.fft2(cover) * taps).real
    return primary * blurred, variance * filtered**2 + electronic**2


def _transfer(taps: np.ndarray, size: int) -> np.ndarray:
    """Transfer function of a symmetric kernel at the `size` frequencies of the discrete Fourier transform."""
    frequency = np.fft.fftfreq(size)
    return taps[0] + 2 * sum(
        (tap * np.cos(2 * np.pi * k * frequency) for k, tap in enumerate(taps[1:], 1)), np.zeros(size)
    )
