"""How alike two saliency maps are: rank correlation and structural similarity."""

from __future__ import annotations

import numpy as np
from scipy import stats
from skimage import metrics


def pixel_ranks(saliency: np.ndarray, *, absolute: bool = False) -> np.ndarray | None:
    """Mid-ranks of the pixels of a map, whose correlation is Spearman's.

    Args:
        saliency: (h, w).
        absolute: rank |map|: a pixel counts by its strength, whatever its sign.

    Returns:
        (h·w,) ranks, equal for ties; None where the map is constant or not finite.
    """
    values = np.asarray(saliency, np.float64).ravel()
    values = np.abs(values) if absolute else values
    return stats.rankdata(values) if _has_range(values) else None


def rank_correlation(first: np.ndarray, second: np.ndarray, *, absolute: bool = False) -> float | None:
    """Spearman's rank correlation of two maps over their pixels.

    Args:
        first: (h, w).
        second: (h, w).
        absolute: correlate |maps|.

    Returns:
        -1 to 1; None where a map is constant or not finite.

    Raises:
        ValueError: the maps differ in shape.

    Reference: Adebayo et al., NeurIPS 2018 (arXiv 1810.03292), section 3.
    """
    _check_shapes(first, second)
    ranks, others = (pixel_ranks(saliency, absolute=absolute) for saliency in (first, second))
    return None if ranks is None or others is None else float(np.corrcoef([ranks, others])[0, 1])


def structural_similarity(first: np.ndarray, second: np.ndarray) -> float | None:
    """Structural similarity (SSIM) of two maps, each stretched to 0-1 first.

    Args:
        first: (h, w), both sides at least 11 pixels: the window is Gaussian, σ 1.5.
        second: (h, w).

    Returns:
        -1 to 1, 1 for maps that are equal up to offset and positive scale; None where a map is constant or not finite.

    Raises:
        ValueError: the maps differ in shape or are smaller than the window.

    Reference: Wang et al., IEEE Trans. Image Process. 13 (2004) 600; Adebayo et al., NeurIPS 2018, section 3.
    """
    _check_shapes(first, second)
    if min(first.shape) < 11:
        raise ValueError(f"maps: found shape {first.shape}, expected at least 11 × 11 pixels, the window of SSIM")
    maps = [np.asarray(saliency, np.float64) for saliency in (first, second)]
    if not all(map(_has_range, maps)):
        return None
    maps = [(saliency - saliency.min()) / np.ptp(saliency) for saliency in maps]
    # Weights and moments of the reference, instead of scikit-image's flat window.
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(metrics.structural_similarity(*maps, data_range=1, **options))


def _has_range(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all() and np.ptp(values) > 0)


def _check_shapes(first: np.ndarray, second: np.ndarray) -> None:
    if first.shape != second.shape:
        raise ValueError(f"maps: found shapes {first.shape} and {second.shape}, expected equal ones")
