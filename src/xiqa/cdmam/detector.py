"""The detector: blur, the make-up of its noise, reproducible random numbers, and the least gold that can be seen."""

from __future__ import annotations

import numba
import numpy as np
from scipy.special import ndtri

from xiqa.cdmam import beam
from xiqa.cdmam.phantom import Geometry
from xiqa.config import Detector, Exposure

MAXIMUM_COUNTS = 2**14 - 1
"""Largest count of 14 bit."""

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
        return float(exposure.noise_level), 0.0, 0.0, 0.0
    photons = GRID_TRANSMISSION * beam.absorbed_photons_per_mm2(exposure, geometry) * detector.pixel_mm**2
    counts_per_photon = beam.primary_counts(exposure, geometry) / photons
    return 0.0, counts_per_photon, STRUCTURE_NOISE**2, ELECTRONIC_PHOTONS * counts_per_photon


# --------------------------------------------------------------------------------------------------------------------
# Noise: a standard normal number for each (key, row, column)

_NODES = 4096
_LEVELS = 3


def _normal_tables() -> np.ndarray:
    """Quantiles of |z| at equal steps, then the last 1/64 of them again at finer steps, and again."""
    steps = np.arange(_NODES + 1) / _NODES
    tables = []
    for level in range(_LEVELS):
        beyond = (1 - steps) * 64.0**-level  # P(|z| > quantile)
        tables.append(-ndtri(np.maximum(beyond, 2.0**-33) / 2))
    return np.array(tables, np.float32)


QUANTILES = _normal_tables()
_M1, _M2, _M3 = np.uint32(0xED5AD4BB), np.uint32(0xAC4C1B51), np.uint32(0x31848BAB)
_S1, _S2, _S3, _S4 = np.uint32(17), np.uint32(11), np.uint32(15), np.uint32(14)
_ONE, _FRACTION_BITS, _FRACTION = np.uint32(1), np.uint32(19), np.uint32(2**19 - 1)
_TAIL = np.uint32(2**31 - 2**25)
_SIX, _ALL = np.uint32(6), np.uint32(2**31 - 1)
_UNIT = np.float32(2.0**-19)
_ROW_BITS = np.uint32(16)
_BEYOND = 4096


@numba.njit(inline="always")
def _mix(x):
    """A 32-bit hash with good avalanche: three rounds of multiply and shift."""
    x = np.uint32(x ^ (x >> _S1))
    x = np.uint32(x * _M1)
    x = np.uint32(x ^ (x >> _S2))
    x = np.uint32(x * _M2)
    x = np.uint32(x ^ (x >> _S3))
    x = np.uint32(x * _M3)
    return np.uint32(x ^ (x >> _S4))


@numba.njit(cache=True)
def normal_row(row: int, first_column: int, keys: np.ndarray, quantiles: np.ndarray, bits: np.ndarray, out: np.ndarray):
    """Fill `out` (n,) float32 with the standard normal numbers of a row from `first_column` on.

    `keys` are three uint32; `bits` (n,) uint32 is room to work. Row and column are hashed one after the other. The
    32 bits of a pixel give the sign and, in the tables of quantiles, the size.
    """
    base = _mix(np.uint32(_mix(np.uint32(np.uint32(row + _BEYOND) + keys[0])) ^ keys[1]))
    step = np.uint32(_mix(np.uint32(base + keys[2])) | _ONE)
    start = np.uint32(np.uint32(np.uint32(first_column + _BEYOND) * step) + base)
    for k in range(out.size):
        bits[k] = _mix(np.uint32(start + np.uint32(np.uint32(k) * step)))
    coarse = quantiles[0]
    for k in range(out.size):
        share = np.uint32(bits[k] >> _ONE)
        node = share >> _FRACTION_BITS
        low, high = coarse[node], coarse[node + _ONE]
        size = low + (high - low) * (np.float32(np.int32(share & _FRACTION)) * _UNIT)
        out[k] = -size if bits[k] & _ONE else size
    for k in range(out.size):
        share = np.uint32(bits[k] >> _ONE)
        if share >= _TAIL:
            level = 1
            share = np.uint32((share << _SIX) & _ALL)
            if share >= _TAIL:
                level = 2
                share = np.uint32((share << _SIX) & _ALL)
            node = share >> _FRACTION_BITS
            low, high = quantiles[level, node], quantiles[level, node + _ONE]
            size = low + (high - low) * (np.float32(np.int32(share & _FRACTION)) * _UNIT)
            out[k] = -size if bits[k] & _ONE else size
