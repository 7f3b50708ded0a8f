"""What the registration of a reading tells: facts for tables, and where the structures of a recording lie."""

from __future__ import annotations

import numpy as np
from skimage.draw import disk, polygon

from xiqa.cdmam.phantom import CELL_PRESENT, CORNER_CODES, CORNER_STEPS, DIAMETERS_MM, LABEL_GRID
from xiqa.cdmam.reader import Reading


def registration_facts(reading: Reading) -> dict[str, float | int]:
    """What was found in one image, as the columns of a table: hits, pose, scale, and residual of the grid."""
    registration = reading.registration
    return {
        "corner_hits": int((reading.corner == 1).sum()),
        "centre_hits": int((reading.centre == 1).sum()),
        "orientation": registration.orientation,
        "angle_deg": round(float(registration.angle_deg), 4),
        "origin_x_mm": round(float(registration.origin_mm[0]), 3),
        "origin_y_mm": round(float(registration.origin_mm[1]), 3),
        "pitch_mm": round(float(registration.pitch_mm), 4),
        "eccentric_offset": round(float(registration.eccentric_offset), 4),
        "residual_mm": round(float(registration.residual_mm), 4),
    }


def structure_of_reading(
    reading: Reading, shape: tuple[int, int], pixel_mm: float, grid_line_mm: float = 0.5
) -> np.ndarray:
    """Structure labels of a recording, from where the reader found the phantom.

    Unlike the labels of a simulated image these are as good as the registration (0.15 mm), and the writing, whose
    place is not standardised, counts as background.

    Args:
        reading: the reading of the image.
        shape: (height, width) of the image in pixels.
        pixel_mm: pixel spacing in mm.
        grid_line_mm: width that the grid's lines are taken to have on the detector.

    Returns:
        (h, w) uint8: 0 background, 1..16 disc of diameter index + 1, 17 grid.
    """
    registration = reading.registration
    first, smaller, thicker = (np.asarray(vector, float) for vector in registration.frame_px)
    labels = np.zeros(shape, np.uint8)
    half = grid_line_mm / pixel_mm / 2
    for i, j in zip(*np.nonzero(CELL_PRESENT), strict=True):
        centre = first + i * smaller + j * thicker
        corners = [centre + (a * smaller + b * thicker) / 2 for a, b in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
        for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
            along = (end - start) / np.linalg.norm(end - start)
            across = half * np.array([-along[1], along[0]])
            band = np.array([start + across, end + across, end - across, start - across])
            labels[polygon(band[:, 1], band[:, 0], shape)] = LABEL_GRID
    for i, j in zip(*np.nonzero(CELL_PRESENT), strict=True):
        centre = first + i * smaller + j * thicker
        steps = CORNER_STEPS[CORNER_CODES[i, j]]
        corner = centre + registration.eccentric_offset * (steps[0] * smaller + steps[1] * thicker)
        radius = max(DIAMETERS_MM[i] * registration.magnification / pixel_mm / 2, 0.5)
        for x, y in (centre, corner):
            labels[disk((y, x), radius, shape=shape)] = i + 1
    return labels
