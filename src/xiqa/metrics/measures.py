"""Measures of image quality, as concepts that a network may know: noise, sharpness, contrast, motion, texture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage, stats
from skimage.feature import graycomatrix
from skimage.filters import threshold_otsu

BINS = 32
"""Grey levels of histograms and co-occurrence matrices, over the range of the pixels that are measured."""
RING_PX = (3, 8)
"""Pixels at this distance from a mask are its surroundings."""
LEAST_RING_PX = 20
SPECTRUM = (0.03, 0.4)
"""Frequencies in cycles per pixel over which a spectrum's slope is taken: below lies the body's outline."""
MOST_CORRELATED = 0.9
"""Measures whose rank correlation with one that is kept is larger than so say the same again."""
FIRST = ("noise", "size_px")
"""They are kept whatever they correlate with: texture follows noise and size, not they texture."""


class Measure(NamedTuple):
    """What is known of a measure.

    Attributes:
        label: what figures and sentences call it.
        unit: of its values; empty for numbers without one.
        needs_mask: whether it is that of the masked region.
    """

    label: str
    unit: str = ""
    needs_mask: bool = False


MEASURES = {
    "noise": Measure("noise"),
    "spectral_slope": Measure("slope of the power spectrum"),
    "median_frequency": Measure("median frequency", "1/px"),
    "motion": Measure("energy beyond the body, along columns over rows"),
    "mean": Measure("mean"),
    "sd": Measure("standard deviation"),
    "skewness": Measure("skewness"),
    "kurtosis": Measure("excess kurtosis"),
    "entropy": Measure("entropy", "bit"),
    "p10": Measure("10th percentile"),
    "p90": Measure("90th percentile"),
    "mad": Measure("mean absolute deviation"),
    "glcm_contrast": Measure("co-occurrence contrast"),
    "glcm_energy": Measure("co-occurrence energy"),
    "glcm_correlation": Measure("co-occurrence correlation"),
    "glcm_homogeneity": Measure("co-occurrence homogeneity"),
    "contrast_to_noise": Measure("contrast-to-noise ratio", "", True),
    "size_px": Measure("size", "px", True),
    "diameter_mm": Measure("equivalent diameter", "mm", True),
}
"""All measures by name, in the order of tables."""


def measure(
    image: np.ndarray,
    mask: np.ndarray | None = None,
    spacing_mm: tuple[float, float] = (math.nan, math.nan),
    names: Iterable[str] | None = None,
) -> dict[str, float]:
    """Measure one image.

    Texture and first-order measures are those of the masked region where there is a mask, of the whole image else.

    Args:
        image: (h, w), finite.
        mask: (h, w) bool, or None.
        spacing_mm: distance of rows and of columns; NaN if unknown, and so are then lengths.
        names: of `MEASURES`; None: all that the image has.

    Returns:
        Name -> value, NaN where the image does not define it (a constant image has no texture).

    Raises:
        ValueError: an unknown name, a measure of a mask without one or of an empty one, or pixels that are no numbers.
    """
    image = np.asarray(image, np.float64)
    if image.ndim != 2 or not np.isfinite(image).all():
        raise ValueError(f"image: found shape {image.shape} or NaN, expected (h, w) of finite pixels")
    has_mask = mask is not None and bool(np.any(mask))
    if names is None:
        names = [name for name, known in MEASURES.items() if has_mask or not known.needs_mask]
    names = list(names)
    if unknown := [name for name in names if name not in MEASURES]:
        raise ValueError(f"measure: found {unknown[0]!r}, expected one of {', '.join(MEASURES)}")
    if not has_mask and (masked := [name for name in names if MEASURES[name].needs_mask]):
        raise ValueError(f"measure: {masked[0]} is that of a mask, found {_none(mask)}; leave it out for this data set")
    mask = np.asarray(mask, bool) if has_mask else None
    values = image[mask] if mask is not None else image.ravel()
    noise = noise_sd(image)
    slope, median = spectrum(image)
    found = {"noise": noise, "spectral_slope": slope, "median_frequency": median, "motion": motion(image)}
    found |= first_order(values) | {f"glcm_{name}": value for name, value in co_occurrence(image, mask).items()}
    if mask is not None:
        area = int(mask.sum())
        found |= {
            "contrast_to_noise": contrast(image, mask) / noise if noise > 0 else math.nan,
            "size_px": float(area),
            "diameter_mm": 2 * math.sqrt(area * spacing_mm[0] * spacing_mm[1] / math.pi),
        }
    return {name: float(found[name]) for name in names}


def _none(mask: np.ndarray | None) -> str:
    return "no mask" if mask is None else "an empty mask"


_LAPLACE = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])


def noise_sd(image: np.ndarray) -> float:
    """Standard deviation of white noise, from the difference of two Laplacians, which edges hardly pass.

    Reference: Immerkær, Comput. Vis. Image Underst. 64 (1996) 300.
    """
    if min(image.shape) < 3:
        return math.nan
    passed = ndimage.convolve(np.asarray(image, np.float64), _LAPLACE)[1:-1, 1:-1]
    return float(math.sqrt(math.pi / 2) / 6 * np.abs(passed).mean())


def spectrum(image: np.ndarray) -> tuple[float, float]:
    """Sharpness in frequencies: slope of ln power over ln frequency, and the median frequency of the amplitude.

    The spectrum is that of the image less its mean under a Hann window, averaged over rings; the median frequency
    (cycles per pixel) halves the sum of the rings' mean amplitudes, as the half-height of a transfer function does for
    an edge. Both NaN for a constant image.
    """
    image = np.asarray(image, np.float64)
    height, width = image.shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    mean = (image * window).sum() / window.sum()
    power = np.abs(np.fft.rfft2((image - mean) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    rings = max(8, min(height, width) // 2)
    ring = np.minimum((2 * frequency * rings).astype(int), rings)
    inside = ring < rings
    count = np.bincount(ring[inside], minlength=rings)
    means = np.bincount(ring[inside], power[inside], rings) / np.maximum(count, 1)
    places = np.bincount(ring[inside], frequency[inside], rings) / np.maximum(count, 1)
    used = (count > 0) & (means > 1e-20 * max(means.max(), 1e-300)) & (places > 0)
    chosen = used & (places >= SPECTRUM[0]) & (places <= SPECTRUM[1])
    if chosen.sum() < 2 or not means.max() > 0:
        return math.nan, math.nan
    slope = np.polyfit(np.log(places[chosen]), np.log(means[chosen]), 1)[0]
    amplitude = np.sqrt(means[used]).cumsum()
    return float(slope), float(np.interp(amplitude[-1] / 2, amplitude, places[used]))


def motion(image: np.ndarray) -> float:
    """Ghosts of motion: ln of the mean square above and below the body over that left and right of it.

    The body is what is brighter than Otsu's threshold, with all between its outermost rows and columns. NaN where it
    reaches the rim on all four sides, so that nothing lies beyond it.

    Ghosts repeat along the columns, the direction of the phase-encoding steps (`degradations.motion`).
    """
    image = np.asarray(image, np.float64)
    if image.min() == image.max():
        return math.nan
    body = image > threshold_otsu(image)
    rows, columns = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
    tall, wide = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    along = np.concatenate([image[: tall.start, wide].ravel(), image[tall.stop :, wide].ravel()])
    across = np.concatenate([image[tall, : wide.start].ravel(), image[tall, wide.stop :].ravel()])
    if not len(along) or not len(across):
        return math.nan
    squares = [float(np.square(part).mean()) for part in (along, across)]
    return math.log(squares[0] / squares[1]) if min(squares) > 0 else math.nan


def contrast(image: np.ndarray, mask: np.ndarray) -> float:
    """Difference of the mean in a mask from that of its surroundings, `RING_PX` away; NaN where there are none."""
    distance = ndimage.distance_transform_edt(~mask)
    ring = (distance >= RING_PX[0]) & (distance <= RING_PX[1])
    return abs(float(image[mask].mean() - image[ring].mean())) if ring.sum() >= LEAST_RING_PX else math.nan


def first_order(values: np.ndarray) -> dict[str, float]:
    """Moments and percentiles of pixels (n,); skewness and kurtosis NaN where all are equal. Entropy in bit."""
    values = np.asarray(values, np.float64)
    constant = values.min() == values.max()
    counts = np.histogram(values, BINS)[0] if not constant else np.array([len(values)])
    share = counts[counts > 0] / counts.sum()
    p10, p90 = np.percentile(values, [10, 90])
    return {
        "mean": float(values.mean()),
        "sd": float(values.std()),
        "skewness": math.nan if constant else float(stats.skew(values)),
        "kurtosis": math.nan if constant else float(stats.kurtosis(values)),
        "entropy": float(-(share * np.log2(share)).sum()),
        "p10": float(p10),
        "p90": float(p90),
        "mad": float(np.abs(values - values.mean()).mean()),
    }


def co_occurrence(image: np.ndarray, mask: np.ndarray | None = None) -> dict[str, float]:
    """Texture by grey levels of neighbours: contrast, energy, correlation, homogeneity; means over four directions.

    `BINS` levels over the range within the mask, distance 1, symmetric; pairs that leave the mask do not count.

    Reference: Haralick, Shanmugam, Dinstein, IEEE Trans. Syst. Man Cybern. 3 (1973) 610.
    """
    inside = np.ones(image.shape, bool) if mask is None else mask
    low, high = image[inside].min(), image[inside].max()
    names = ("contrast", "energy", "correlation", "homogeneity")
    if low == high:
        return dict.fromkeys(names, math.nan)
    # Level 0 is what lies outside; its row and column are dropped.
    levels = np.where(inside, 1 + np.minimum((BINS * (image - low) / (high - low)), BINS - 1).astype(int), 0)
    counts = graycomatrix(
        levels.astype(np.uint8), [1], [0, math.pi / 4, math.pi / 2, 3 * math.pi / 4], BINS + 1, symmetric=True
    )[1:, 1:, 0].astype(float)  # fmt: skip
    counts = counts[..., counts.sum(axis=(0, 1)) > 0]
    if not counts.size:
        return dict.fromkeys(names, math.nan)
    p = counts / counts.sum(axis=(0, 1))
    i, j = np.indices(p.shape[:2])[..., None]
    mean = (i * p).sum(axis=(0, 1))
    variance = ((i - mean) ** 2 * p).sum(axis=(0, 1))
    covariance = ((i - mean) * (j - mean) * p).sum(axis=(0, 1))
    return {
        "contrast": float((p * (i - j) ** 2).sum(axis=(0, 1)).mean()),
        "energy": float((p**2).sum(axis=(0, 1)).mean()),
        "correlation": float(np.divide(covariance, variance, out=np.ones_like(variance), where=variance > 0).mean()),
        "homogeneity": float((p / (1 + (i - j) ** 2)).sum(axis=(0, 1)).mean()),
    }


def correlations(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Rank correlations of measures with each other, and which of them are kept.

    A measure is kept if its |Spearman ρ| with every one that was kept before is at most `MOST_CORRELATED`; those of
    `FIRST` come first, the others in the order of `names`. One that does not vary is never kept.

    Args:
        table: a row for each image, a column for each measure.
        names: the measures.

    Returns:
        A row for each pair: measure, other, spearman, and kept (of `measure`), because (what it repeats).
    """
    order = sorted(names, key=lambda name: name not in FIRST)
    varies = {name: table[name].nunique(dropna=True) > 1 for name in order}
    rho = table[order].rank().corr(min_periods=3)
    kept: list[str] = []
    because: dict[str, str] = {}
    for name in order:
        repeats = [other for other in kept if abs(rho.loc[name, other]) > MOST_CORRELATED]
        if not varies[name]:
            because[name] = "does not vary"
        elif repeats:
            because[name] = f"repeats {repeats[0]}"
        else:
            kept.append(name)
    return pd.DataFrame(
        [
            {"measure": name, "other": other, "spearman": rho.loc[name, other], "kept": name in kept,
             "because": because.get(name, "")}
            for name in names
            for other in names
        ]
    )  # fmt: skip
