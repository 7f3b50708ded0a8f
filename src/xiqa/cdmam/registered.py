"""What the registration of a reading tells: facts for tables, and where the structures of a recording lie."""

from __future__ import annotations

import math

import numpy as np

from xiqa.cdmam.grid import in_frame
from xiqa.cdmam.phantom import CORNER_STEPS, phantom
from xiqa.cdmam.reader import Reading, Registration
from xiqa.extras import load

LARGE_DISPLACEMENT_MM = 0.15
"""From here on displaced discs are worth a warning: a reader that looks for them in the grid begins to miss them."""
LARGE_RESIDUAL_MM = 0.06


def registration_facts(reading: Reading) -> dict[str, float | int]:
    """What was found in one image, as the columns of a table: hits, pose, scale, residual of the grid, displacement."""
    registration = reading.registration
    displacement = registration.displacement
    named = ("shift_x_mm", "shift_y_mm", "rotation_deg", "scale", "skew", "residual_mm")
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
        **{f"disc_{name}": round(getattr(displacement, name), 5) if displacement else math.nan for name in named},
    }


def registration_warnings(registration: Registration) -> list[str]:
    """What is unusual about the place of the discs in an image, in sentences without its name; none as a rule."""
    displacement = registration.displacement
    if not registration.discs_visible:
        return ["no discs stand out, or too few to locate them: they were looked for where the grid says"]
    if displacement is None:
        return []
    found = []
    if displacement.largest_mm > LARGE_DISPLACEMENT_MM:
        found.append(
            f"the discs lie up to {displacement.largest_mm:.2f} mm off their places in the grid (shift "
            f"{displacement.shift_x_mm:z.2f}, {displacement.shift_y_mm:z.2f} mm, rotation "
            f"{displacement.rotation_deg:z.2f}°, scale {displacement.scale:.4f}); they were looked for where they lie"
        )
    if displacement.residual_mm > LARGE_RESIDUAL_MM:
        found.append(
            f"single discs lie {displacement.residual_mm:.2f} mm (root mean square) off their common displacement, "
            "usual are 0.02 mm: small ones may be missed"
        )
    return found


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
        (h, w) uint8: 0 background, 1 to D disc of the diameter index + 1, then the grid (17 for CDMAM 3.4, 22 for 4.0).
    """
    draw = load("skimage.draw")
    known = phantom(reading.version)
    registration = reading.registration
    frame, discs = (np.asarray(frame, float) for frame in (registration.frame_px, registration.disc_frame_px))
    smaller, thicker = frame[1:]
    labels = np.zeros(shape, np.uint8)
    half = grid_line_mm / pixel_mm / 2
    for row, column in known.cell_places[:, known.present].T:
        centre = in_frame(frame, row, column)
        corners = [centre + (a * smaller + b * thicker) / 2 for a, b in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
        for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
            along = (end - start) / np.linalg.norm(end - start)
            across = half * np.array([-along[1], along[0]])
            band = np.array([start + across, end + across, end - across, start - across])
            labels[draw.polygon(band[:, 1], band[:, 0], shape)] = known.label_grid
    for i, j in zip(*np.nonzero(known.present), strict=True):
        row, column = known.cell_places[:, i, j]
        radius = max(known.diameters_mm[i] * registration.magnification / pixel_mm / 2, 0.5)
        for step in (np.zeros(2), registration.eccentric_offset * CORNER_STEPS[known.corner_codes[i, j]]):
            x, y = in_frame(discs, row + step[0], column + step[1])
            labels[draw.disk((y, x), radius, shape=shape)] = i + 1
    return labels
