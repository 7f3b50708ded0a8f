"""Pointing Game: does the peak of a map point at the ground truth?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import ndimage

from xiqa.metrics.maps.scored import not_scored

TOLERANCE_PX = 15
"""Tolerance of the papers, at their sizes."""


def pointing_game(
    saliency: np.ndarray, mask: np.ndarray, tolerance_px: float = TOLERANCE_PX, smooth: bool = False
) -> bool | None:
    """Whether a pixel of the ground truth lies closer to the peak of the map than the tolerance.

    Args:
        saliency: (h, w) map; its peak is the first largest value, row by row.
        mask: (h, w) bool, the ground truth.
        tolerance_px: in pixels; a squared distance below its square is a hit, so that 1 asks for the mask itself.
        smooth: look for the peak in the `smoothed` map.

    Returns:
        Hit or miss; None, not scored, if the mask is empty or the map constant or not finite.

    Raises:
        ValueError: map and mask differ in shape, or the tolerance is not positive.

    Reference: Zhang et al. 2018, "Top-down neural attention by excitation backprop", section 4.1; Özer.
    """
    return pointing_game_mm(saliency, mask, tolerance_px, (1, 1), smooth)


def pointing_game_mm(
    saliency: np.ndarray,
    mask: np.ndarray,
    tolerance_mm: float,
    spacing_mm: tuple[float, float],
    smooth: bool = False,
) -> bool | None:
    """`pointing_game` with the tolerance in mm, for pixels of any size and shape.

    Args:
        saliency: (h, w) map.
        mask: (h, w) bool.
        tolerance_mm: largest distance in mm, itself not a hit.
        spacing_mm: distance between rows and between columns.
        smooth: as in `pointing_game`; the smoothing is in pixels.
    """
    if tolerance_mm <= 0:
        raise ValueError(f"tolerance: found {tolerance_mm}, expected more than 0; 1 px asks for the mask itself")
    if not_scored(saliency, mask):
        return None
    peak = np.unravel_index(np.argmax(smoothed(saliency) if smooth else saliency), mask.shape)
    rows, columns = (
        ((np.arange(length) - place) * spacing) ** 2
        for length, place, spacing in zip(mask.shape, peak, spacing_mm, strict=True)
    )
    near = np.ix_(rows < tolerance_mm**2, columns < tolerance_mm**2)
    return bool((mask[near] & (rows[near[0]] + columns[near[1]] < tolerance_mm**2)).any())


def smoothed(saliency: np.ndarray) -> np.ndarray:
    """The map (h, w) under a Gaussian of standard deviation 1 px on 11 × 11 px, reflected at its edge pixels.

    Reference: Özer, table 2; the width of the kernel and the reflection are those of its published code.
    """
    # scipy's "mirror" is torch's "reflect": the edge pixel itself is not repeated.
    return ndimage.gaussian_filter(np.asarray(saliency, np.float64), 1, radius=5, mode="mirror")


def inside_boxes(boxes: Sequence[Sequence[float]], shape: tuple[int, int]) -> np.ndarray:
    """The ground truth of Özer: pixels (h, w) whose centre lies in a box (x_min, y_min, x_max, y_max), bool.

    A box too small to hold a centre keeps the pixel in which its own centre lies, so that no ground truth vanishes.
    """
    mask = np.zeros(shape, bool)
    for x_min, y_min, x_max, y_max in boxes:
        sides = []
        for low, high, length in ((y_min, y_max, shape[0]), (x_min, x_max, shape[1])):
            first, end = (int(np.clip(np.ceil(edge - 0.5), 0, length)) for edge in (low, high))
            middle = min(int((low + high) / 2), length - 1)
            sides.append(slice(first, end) if first < end else slice(middle, middle + 1))
        mask[tuple(sides)] = True
    return mask


def chance_level(mask: np.ndarray, tolerance_px: float = TOLERANCE_PX) -> float | None:
    """Share of the pixels that are hits: the accuracy of a peak drawn at random; None for an empty mask."""
    return float((nearest(mask)[0] < tolerance_px**2).mean()) if mask.any() else None


def scaled_tolerance_px(width: int, reference_width: int) -> float:
    """The papers' tolerance for images of another width; never below 1, the mask itself."""
    return max(1.0, TOLERANCE_PX * width / reference_width)


def pointing_game_accuracy(hits: Sequence[bool | float | None], classes: Sequence) -> dict[str, float]:
    """Share of hits, over all images and as the mean over classes.

    Args:
        hits: n results; None and NaN are not scored.
        classes: the class of each image.

    Returns:
        pooled: hits / (hits + misses); class_mean: mean of the shares of the classes that have a scored image; n:
        scored images; not_scored. Both shares are NaN where nothing is scored.

    Raises:
        ValueError: another number of classes than of hits.

    Reference: pooled in Özer; class_mean in Zhang et al. 2018.
    """
    if len(hits) != len(classes):
        raise ValueError(f"classes: found {len(classes)}, expected {len(hits)}, one for each image")
    table = pd.DataFrame({"hit": pd.Series(list(hits), dtype=float), "class": list(classes)}).dropna(subset=["hit"])
    return {
        "pooled": table["hit"].mean(),
        "class_mean": table.groupby("class")["hit"].mean().mean(),
        "n": len(table),
        "not_scored": len(hits) - len(table),
    }


def nearest(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel (h, w): squared distance to the nearest pixel of a mask, and that pixel's place row * w + column.

    Args:
        mask: (h, w) bool, not empty.
    """
    rows, columns = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    own_rows, own_columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    return (rows - own_rows) ** 2 + (columns - own_columns) ** 2, rows * mask.shape[1] + columns
