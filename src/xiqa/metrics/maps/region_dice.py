"""Dice similarity coefficient (DSC) of a map's best regions with the ground truth."""

from __future__ import annotations

import numpy as np

from xiqa.metrics.maps.scored import not_scored
from xiqa.segmentation import Segments, regions, segment

PERCENT = np.arange(1, 101)
"""Shares of the image's area that are kept."""


def region_dice(
    saliency: np.ndarray, image: np.ndarray | None, mask: np.ndarray, segments: Segments | None = None
) -> np.ndarray | None:
    """Dice of the ground truth and the p % of the area with the highest mean over regions, p = 1 ... 100.

    The map is averaged over the regions of XRAI's full algorithm (Brocki 2022 does not say full or fast; full is that
    of the publication it follows and its library's default), and pixels are taken by falling mean of their region.
    Exactly p % of the area is kept: of the region that the cut goes through, and of regions of equal mean, the overlap
    counts that is expected if the pixels are drawn at random, so that p is the same for every method.

    Args:
        saliency: (h, w) map.
        image: (h, w); it is not used where its segments are given.
        mask: (h, w) bool, the ground truth.
        segments: of the image, by `xiqa.segmentation.segment`, where several maps of it are scored.

    Returns:
        (100,), 0-1; None, not scored, if the mask is empty or the map constant or not finite.

    Raises:
        ValueError: map and mask differ in shape, a segment reaches beyond them, or there is neither image nor segments.

    Reference: Brocki 2022, section 3.3; Kapishnikov et al. 2019, "XRAI", algorithm 1; Dice 1945.
    """
    if not_scored(saliency, mask):
        return None
    if segments is None:
        if image is None:
            raise ValueError("found neither an image nor its segments, expected one of them; give the image")
        segments = segment(image[None])
    region, means = regions(saliency, segments)
    # Regions of equal mean are one.
    level = np.unique(-means, return_inverse=True)[1][region]
    area, inside = np.bincount(level.ravel()), np.bincount(level[mask], minlength=level.max() + 1)
    kept = PERCENT / 100 * mask.size
    overlap = np.interp(kept, np.append(0, np.cumsum(area)), np.append(0, np.cumsum(inside)))
    return 2 * overlap / (kept + np.count_nonzero(mask))
