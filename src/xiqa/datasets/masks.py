"""What a mask is: the one place that decides which of its values are inside, and whether it fits its image."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from xiqa.config import MASK_VALUES
from xiqa.datasets.base import DataError
from xiqa.datasets.limits import current
from xiqa.datasets.orientation import Place

FEW = 16
"""So many different values or colours are labels."""
LARGEST_LABEL = 31
"""Whole numbers up to this one are labels, however many there are."""
FLAT, EDGE = 0.25, 0.03
"""A value is that of a plateau if around it values differ by less than FLAT of its distance to the ends of the range;
values nearer to them than EDGE are those ends."""
TOLERANCE_PX = 0.1
"""Image and mask lie alike if no corner is further apart."""
_WAYS = "set mask_values (or fill that column): nonzero, values such as '44 104' or '#ff0000', or a level '> 0.5'"


def inside_of(
    path: str | Path,
    values: np.ndarray,
    *,
    mask_values: str | None = None,
    lossy: bool = False,
    full_scale: float | None = None,
) -> np.ndarray:
    """Which pixels of a mask are inside.

    `auto` takes each value but 0 (of colours: but black) of a mask that holds labels: at most `FEW` different values,
    or whole numbers up to `LARGEST_LABEL`. A mask with more values, or from a lossy format, must be one shape with soft
    edges, on black and up to the full scale, and is cut at half of it. All else is refused: nobody can know whether
    the darker of two levels is a structure. So are labels without any 0, since one of them must be the ground.

    Args:
        path: the file, for messages.
        values: (h, w), or (h, w, 3) of a colour mask.
        mask_values: "auto", "nonzero", values and colours, or "> level"; None: as the data set says.
        lossy: the format changes values, as JPEG does.
        full_scale: what white is; None: the first of 1, 255 and 65535 that no value exceeds.

    Returns:
        (h, w) bool.

    Raises:
        DataError: values that are not finite, or of which the rule says nothing.
    """
    rule = current().mask_values if mask_values is None else mask_values
    if not re.fullmatch(MASK_VALUES, rule):
        raise DataError(path, f"found mask_values '{rule}'; {_WAYS}")
    grey = values.max(-1) if values.ndim == 3 else values
    if values.dtype == bool:
        return values.copy()
    if not np.isfinite(grey).all():
        raise DataError(path, "found NaN or infinity in a mask, expected numbers; export it again")
    if rule == "nonzero":
        return grey != 0
    if rule.startswith(">"):
        return grey > float(rule[1:])
    if rule != "auto":
        return _named(values, rule)
    if not lossy and (labels := _labels(path, values)) is not None:
        return labels
    white = full_scale or next((scale for scale in (1, 255, 65535) if grey.max() <= scale), np.nan)
    return _cut(path, grey / white)


def check_same_place(path: str | Path, mask: Place, image: Place, shape: tuple[int, int]) -> None:
    """Refuse a mask that lies elsewhere in the patient than its image.

    Args:
        path: the mask's file, for the message.
        mask: its place.
        image: that of the image.
        shape: (h, w) of both.

    Raises:
        DataError: a corner of the mask lies more than `TOLERANCE_PX` pixels beside that of the image; or only one of
            the two says how it lies, and had to be turned for it.
    """
    affine, mask_affine = image.affine, mask.affine
    if affine is None or mask_affine is None:
        if (affine is None) != (mask_affine is None) and (mask.turned or image.turned):
            problem = "found that only one of image and mask says how it lies in the patient, and that it was turned"
            raise DataError(path, f"{problem}: they may not fit; save both in one format, with the same affine")
        return
    height, width = shape
    corners = np.array([[x, y, 0, 1] for x in (0, width - 1) for y in (0, height - 1)]).T
    apart_mm = np.linalg.norm(((mask_affine - affine) @ corners)[:3], axis=0).max()
    pixel_mm = np.linalg.norm(affine[:3, :2], axis=0).min()
    if apart_mm > TOLERANCE_PX * pixel_mm:
        raise DataError(
            path,
            f"found a mask whose header places it {apart_mm:.4g} mm beside its image (pixels of {pixel_mm:.4g} mm), "
            "expected the same place; draw it on this image, or save it with the image's affine",
        )


def _named(values: np.ndarray, rule: str) -> np.ndarray:
    """Pixels whose value or colour is one of those named; a value is that of all channels."""
    channels = values if values.ndim == 3 else np.stack([values] * 3, -1)
    inside = np.zeros(values.shape[:2], bool)
    for name in filter(None, re.split(r"[ ,;]+", rule)):
        wanted = [int(name[place : place + 2], 16) for place in (1, 3, 5)] if name[0] == "#" else float(name)
        inside |= (channels == wanted).all(-1)
    return inside


def _labels(path: str | Path, values: np.ndarray) -> np.ndarray | None:
    """What is not 0 or black of a mask that holds labels; None for another mask."""
    codes = values
    if values.ndim == 3:
        codes = values.astype(np.int64) @ np.array([1, 1 << 16, 1 << 32])
    different = np.unique(codes)
    whole = (different % 1 == 0).all()
    if not (len(different) <= FEW or (values.ndim == 2 and whole and different[-1] <= LARGEST_LABEL)):
        return None
    shown = ", ".join(f"{value:g}" for value in different[:FEW]) if values.ndim == 2 else f"{len(different)} colours"
    if different[0] < 0 or (len(different) > 1 and different[0] != 0):
        raise DataError(path, f"found a mask of {shown}, expected 0 (black) outside of all structures; {_WAYS}")
    low, high = different[different < EDGE * 255], different[different > (1 - EDGE) * 255]
    if values.ndim == 2 and len(low) > 1 < len(high) and len(low) + len(high) == len(different):
        raise DataError(path, f"found a mask of {shown}: labels, or black and white that was a JPEG once; {_WAYS}")
    return codes != 0


def _cut(path: str | Path, share: np.ndarray) -> np.ndarray:
    """A shape with soft edges, cut at half the full scale.

    Args:
        path: the file.
        share: (h, w) values over the full scale.
    """
    distance = np.minimum(share, 1 - share)
    flat = maximum_filter(share, 3) - minimum_filter(share, 3) <= FLAT * distance
    plateau = minimum_filter(flat & (distance > EDGE), 3, mode="constant")
    ends = share.min() >= -EDGE and (share.max() <= EDGE or 1 - FLAT <= share.max() <= 1 + EDGE)  # False for NaN
    if not ends or plateau.any():
        raise DataError(
            path,
            f"found a mask of {len(np.unique(share))} levels that is no single shape with soft edges, so that nobody "
            f"can tell which are inside; {_WAYS}",
        )
    return share > 0.5
