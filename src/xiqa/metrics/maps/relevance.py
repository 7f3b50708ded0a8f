"""Relevance mass (energy Pointing Game) and relevance rank: how much of a map lies in the ground truth."""

from __future__ import annotations

import numpy as np

from xiqa.metrics.maps.scored import not_scored


def relevance_mass(saliency: np.ndarray, mask: np.ndarray) -> float | None:
    """Share of the positive part of a map that lies in the ground truth: Σ_mask max(map, 0) / Σ max(map, 0).

    Args:
        saliency: (h, w) map.
        mask: (h, w) bool, the ground truth.

    Returns:
        0-1; None, not scored, if the mask is empty, the map constant or not finite, or no value positive.

    Raises:
        ValueError: map and mask differ in shape.

    Reference: Arras et al. 2022, "CLEVR-XAI", relevance mass accuracy; Wang et al. 2020, "Score-CAM", equation 9.
    """
    if not_scored(saliency, mask):
        return None
    positive = np.maximum(saliency, 0, dtype=np.float64)
    total = positive.sum()
    return float(positive[mask].sum() / total) if total > 0 else None


def relevance_rank(saliency: np.ndarray, mask: np.ndarray) -> float | None:
    """Share of the |mask| largest pixels of a map that lie in the ground truth.

    Where the last places fall on equal values, the share that is expected if those places are drawn among them counts.

    Args:
        saliency: (h, w) map.
        mask: (h, w) bool, the ground truth.

    Returns:
        0-1; None, not scored, if the mask is empty or the map constant or not finite.

    Raises:
        ValueError: map and mask differ in shape.

    Reference: Arras et al. 2022, "CLEVR-XAI", relevance rank accuracy.
    """
    if not_scored(saliency, mask):
        return None
    places = np.count_nonzero(mask)
    last = np.partition(saliency, -places, axis=None)[-places]
    above, equal = saliency > last, saliency == last
    left = places - np.count_nonzero(above)
    drawn = left * np.count_nonzero(equal & mask) / np.count_nonzero(equal)
    return float((np.count_nonzero(above & mask) + drawn) / places)
