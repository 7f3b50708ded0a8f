"""Overlap of a thresholded map with the ground truth (IoU), and detection of its lesions (FROC)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.morphology import local_maxima

from xiqa.metrics.maps.pointing_game import nearest, smoothed
from xiqa.metrics.maps.scored import not_scored

FALSE_POSITIVES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
"""False positives per image at which FROC sensitivities are read off."""


def otsu_threshold(saliency: np.ndarray) -> float:
    """Otsu's threshold between all values of a map, not between bins: the largest value of the lower class.

    Args:
        saliency: (h, w), finite and not constant; of equally good thresholds the lowest is taken.

    Reference: Otsu 1979, "A threshold selection method from gray-level histograms", equation 18.
    """
    values = np.sort(saliency, axis=None)
    scaled = (values.astype(np.float64) - values[0]) / (float(values[-1]) - float(values[0]))
    lower = np.arange(1, len(values))
    sums = np.cumsum(scaled - scaled.mean())[:-1]
    between = np.where(values[1:] > values[:-1], sums**2 / (lower * lower[::-1]), -1)
    return float(values[between.argmax()])


def iou(saliency: np.ndarray, mask: np.ndarray) -> float | None:
    """Intersection over union of the ground truth and the pixels above Otsu's threshold.

    Args:
        saliency: (h, w) map.
        mask: (h, w) bool, the ground truth.

    Returns:
        0-1; None, not scored, if the mask is empty or the map constant or not finite.

    Raises:
        ValueError: map and mask differ in shape.

    Reference: Jaccard 1912; `otsu_threshold`.
    """
    if not_scored(saliency, mask):
        return None
    found = saliency > otsu_threshold(saliency)
    return float(np.count_nonzero(found & mask) / np.count_nonzero(found | mask))


class Froc(NamedTuple):
    """Free-response ROC of a set of maps.

    Attributes:
        curve: threshold (falling), false_positives per image, sensitivity, for candidates that reach the threshold; up
            to the last of `FALSE_POSITIVES`.
        sensitivities: (7,), at `FALSE_POSITIVES`.
        mean: of the sensitivities.
        n: images that are scored, with or without a lesion.
        lesions: their number in these.
        not_scored: images that are left out.
    """

    curve: pd.DataFrame
    sensitivities: np.ndarray
    mean: float
    n: int
    lesions: int
    not_scored: int


def froc(maps: Iterable[np.ndarray], masks: Iterable[np.ndarray], tolerance_px: float) -> Froc | None:
    """Share of the lesions that are found, against the false positives per image.

    Candidates are the local maxima (8 neighbours; a plateau counts once, by its first pixel) of the `smoothed` map;
    their score is its value: scale the maps before, if those of different images are not comparable. A candidate finds
    the lesion nearest to it if that is closer than the tolerance, else it is a false positive; a lesion found again
    counts once. Candidates of equal score enter together, and a sensitivity is the largest with at most so many false
    positives per image.

    Args:
        maps: n of (h, w), which may differ in size.
        masks: n of (h, w) bool; lesions are the components connected by 8 neighbours. An empty mask is an image without
            a lesion, where every candidate is a false positive.
        tolerance_px: as in `pointing_game`.

    Returns:
        Curve and sensitivities; None if no scored image has a lesion. Left out are constant or not finite maps.

    Raises:
        ValueError: a map and its mask differ in shape.

    Reference: Object-CXR challenge (JF Healthcare 2020); Setio et al. 2017, LUNA16: the false positives per image.
    """
    neighbours = np.ones((3, 3))
    false, found, n, left_out = [], [], 0, 0
    for saliency, mask in zip(maps, masks, strict=True):
        # Without a lesion a map is scored all the same, if it is finite and not constant.
        if not_scored(saliency, mask if mask.any() else ~mask):
            left_out += 1
            continue
        n += 1
        values = smoothed(saliency).ravel()
        plateaus = ndimage.label(local_maxima(values.reshape(mask.shape), connectivity=2), neighbours)[0].ravel()
        places = np.flatnonzero(plateaus)
        places = places[np.unique(plateaus[places], return_index=True)[1]]
        hit = np.zeros(len(places), bool)
        if mask.any():
            squared, to = (field.ravel()[places] for field in nearest(mask))
            hit = squared < tolerance_px**2
            lesions, number = ndimage.label(mask, neighbours)
            best = np.full(number, -np.inf)
            np.maximum.at(best, lesions.ravel()[to[hit]] - 1, values[places[hit]])
            found.append(best)
        false.append(values[places[~hit]])
    if not found:
        return None
    false, found = np.sort(np.concatenate(false)), np.sort(np.concatenate(found))
    thresholds = np.unique(np.concatenate([false, found[np.isfinite(found)]]))[::-1]
    per_image = (len(false) - np.searchsorted(false, thresholds)) / n
    sensitivity = (len(found) - np.searchsorted(found, thresholds)) / len(found)
    rows = np.searchsorted(per_image, FALSE_POSITIVES, "right")
    curve = pd.DataFrame({"threshold": thresholds, "false_positives": per_image, "sensitivity": sensitivity})
    sensitivities = np.append(0, sensitivity)[rows]
    return Froc(curve[: rows[-1]], sensitivities, float(sensitivities.mean()), n, len(found), left_out)
