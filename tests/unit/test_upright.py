"""The upright matrix is found wherever it lies."""

import numpy as np
import pytest
from cases import long

from xiqa.cdmam.grid import decimate, flatten
from xiqa.cdmam.phantom import GEOMETRIES, geometry_of, phantom
from xiqa.cdmam.projection import discs_px
from xiqa.cdmam.simulator import simulate
from xiqa.cdmam.upright import find_upright
from xiqa.config import Detector, Exposure

VERSION = phantom("4.0")
EXPOSURE = Exposure(tube_voltage_kv=25, exposure_mas=110, noise_level=13.06)


@pytest.fixture(
    scope="module",
    params=[(Detector(pixel_mm=0.1), 0), (Detector(pixel_mm=0.1, tilt_deg=-3, heel=0.2, writing=False), 40)],
    ids=["upright", "tilted, with a wide margin"],
)
def image(request):
    """An image, and the frame of its cells (cell (0, 0), step of diameters, step of thicknesses) in pixels."""
    detector, margin_mm = request.param
    geometry = geometry_of("4.0")
    made = simulate(EXPOSURE, detector, geometry, margin_mm)
    shift = np.array(made.meta["shift_px"])[::-1] + round(margin_mm / detector.pixel_mm)
    discs = {(i, j): np.array([x, y]) for i, j, x, y, _ in reversed(list(discs_px(geometry, detector, shift)))}
    frame = np.array([discs[0, 0], discs[1, 0] - discs[0, 0], discs[0, 1] - discs[0, 0]])
    return made.counts.astype(np.float32), frame


def turned(image, frame, orientation):
    """Image and frame mirrored from 4 on, then turned by quarters counter-clockwise."""
    frame = frame.copy()
    if orientation >= 4:
        image, frame = image[:, ::-1], frame * [-1, 1] + np.outer([image.shape[1] - 1, 0, 0], [1, 0])
    for _ in range(orientation % 4):
        frame = frame[:, ::-1] * [1, -1] + np.outer([image.shape[1] - 1, 0, 0], [0, 1])
        image = np.rot90(image)
    return np.ascontiguousarray(image), frame


@pytest.mark.parametrize("orientation", [3, 6, *(long(o) for o in (0, 1, 2, 4, 5, 7))])
def test_the_frame_of_the_cells_is_found_in_every_orientation(image, orientation):
    bright_lines = orientation in (2, 6)
    counts, frame = turned(*image, orientation)
    factor = max(1, round(max(counts.shape) / 1000))
    flat = flatten(decimate(-counts if bright_lines else counts, factor), "image")
    found = find_upright(flat, VERSION, "image")
    assert found.line_sign == (1 if bright_lines else -1)
    full = found.frames[orientation >= 4] * factor
    full[0] += (factor - 1) / 2
    corners = np.array([[1, 0, 0], [1, 21.5, 0], [1, 0, 15], [1, 21.5, 15]])
    assert np.abs(corners @ full - corners @ frame).max() < 0.5  # 0.05 mm
    assert found.residual_px * factor < 0.3
    mirrored = np.vstack([full[0] + 15 * full[2], full[1], -full[2]])
    other = found.frames[orientation < 4] * factor
    assert np.abs(mirrored[1:] - other[1:]).max() < 1e-6


def test_another_phantom_noise_and_half_a_phantom_are_refused(image):
    counts, _ = image
    half = counts[: counts.shape[0] // 2]
    noise = np.random.default_rng(0).normal(500, 10, (1000, 800)).astype(np.float32)
    standing = simulate(EXPOSURE, Detector(pixel_mm=0.1), GEOMETRIES["standard_reader"], 2).counts
    for wrong in (half, noise, standing):
        flat = flatten(decimate(wrong.astype(np.float32), 2), "image 7")
        with pytest.raises(ValueError, match=r"image 7: not a CDMAM 4\.0 image"):
            find_upright(flat, VERSION, "image 7")
