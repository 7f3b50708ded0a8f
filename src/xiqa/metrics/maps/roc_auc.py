"""Receiver operating characteristic (ROC) of a map's pixels against the ground truth."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from xiqa.metrics.maps.scored import not_scored

POINTS = 1001
"""Most rows of a curve."""


def roc_auc(saliency: np.ndarray, mask: np.ndarray, within: np.ndarray | None = None) -> float | None:
    """Area under the ROC of one map: how often a pixel of the ground truth is larger than one outside, ties half.

    Args:
        saliency: (h, w) map.
        mask: (h, w) bool, the ground truth.
        within: (h, w) bool, the pixels that count, such as the head; None: all.

    Returns:
        0-1; None, not scored, if the mask is empty or full or the map constant (each among the pixels that count), or
        the map not finite.

    Raises:
        ValueError: map and mask differ in shape.

    Reference: Mann and Whitney 1947; Hanley and McNeil 1982, for the area.
    """
    if not_scored(saliency, mask):
        return None
    if within is not None:
        saliency, mask = saliency[within], mask[within]
    positive, negative = np.sort(saliency[mask]), np.sort(saliency[~mask])
    if not len(positive) or not len(negative) or saliency.min() == saliency.max():
        return None
    smaller = np.searchsorted(negative, positive, "left").sum() + np.searchsorted(negative, positive, "right").sum()
    return float(smaller / (2 * len(positive) * len(negative)))


class MeanRoc(NamedTuple):
    """ROC of many maps, averaged at each threshold.

    Attributes:
        curve: threshold (rising), fpr, tpr: means over the images of the rates of pixels above the threshold;
            of more than `POINTS` rows some evenly along the curve.
        area: under the curve.
        mean_height: mean rate of true positives over the thresholds, by which Brocki 2022 approximates the area.
        n: images that are scored.
        not_scored: images that are left out.
    """

    curve: pd.DataFrame
    area: float
    mean_height: float
    n: int
    not_scored: int


def mean_roc(
    maps: Iterable[np.ndarray], masks: Iterable[np.ndarray], thresholds: np.ndarray | None = None
) -> MeanRoc | None:
    """ROC averaged over images at each threshold of the maps, each normalised to 0-1 by its minimum and maximum.

    Over all thresholds the area is the probability that a pixel of the ground truth of a random image lies above a
    pixel outside that of another (or the same) random image, ties half: unlike the mean of `roc_auc`, it asks that
    the normalised values of different images can be compared.

    Args:
        maps: n of (h, w), which may differ in size; they need about 90 bytes of memory for each pixel of them all.
        masks: n of (h, w) bool.
        thresholds: rising, of the normalised map; the area is then that of straight lines between their points, which
            is coarse where maps are peaked. None: every value.

    Returns:
        Curve, area and numbers; None if no image is scored. Left out are images with an empty or full mask and
        constant or not finite maps.

    Raises:
        ValueError: a map and its mask differ in shape.

    Reference: Brocki 2022, section 3.2. Its area is "the mean of the heights of available points", which is an area
    only where the points lie evenly along the rate of false positives; which points are available it does not say.
    """
    values, weights, left_out = [], [], 0
    for saliency, mask in zip(maps, masks, strict=True):
        if not_scored(saliency, mask) or mask.all():
            left_out += 1
            continue
        low, high = float(saliency.min()), float(saliency.max())
        values.append((saliency.ravel().astype(np.float64) - low) / (high - low))
        weights.append(np.where(mask, 1 / mask.sum(), -1 / (~mask).sum()).ravel())
    n = len(values)
    if not n:
        return None
    values, weights = np.concatenate(values), np.concatenate(weights)
    order = np.argsort(values)
    values, weights = values[order], weights[order] / n
    if thresholds is None:
        counts = np.append(0, np.flatnonzero(np.append(values[1:] != values[:-1], True)) + 1)
        thresholds = np.append(-np.inf, values)[counts]
    else:
        counts = np.searchsorted(values, thresholds, "right")
    # Rates above the k-th smallest value; k = 0 is a threshold below them all.
    tpr, fpr = (np.clip(1 - np.append(0, np.cumsum(np.maximum(part, 0)))[counts], 0, 1) for part in (weights, -weights))
    area = -np.trapezoid(np.concatenate([[1], tpr, [0]]), np.concatenate([[1], fpr, [0]]))
    rows = np.arange(len(counts))
    if len(rows) > POINTS:
        length = 2 - fpr - tpr
        rows = np.unique(np.searchsorted(length, np.linspace(0, length[-1], POINTS)))
    curve = pd.DataFrame({"threshold": thresholds[rows], "fpr": fpr[rows], "tpr": tpr[rows]})
    return MeanRoc(curve, float(area), float(tpr.mean()), n, left_out)
