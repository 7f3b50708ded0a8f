"""Cells cut out by registration: every place where it belongs, whatever the orientation, and back again."""

import dataclasses

import numpy as np
import pytest

from xiqa.cdmam.cells import cut, mosaic_pixels, mosaic_size, scatter_back
from xiqa.cdmam.phantom import CELL_PRESENT, GEOMETRIES
from xiqa.cdmam.reader import read_image
from xiqa.cdmam.simulator import simulate
from xiqa.config import Detector, Exposure

PATCH = 16


@pytest.fixture(scope="module")
def seen():
    exposure = Exposure(tube_voltage_kv=28, exposure_mas=115, noise_level=6.0)
    detector = Detector(pixel_mm=0.1, scatter_to_primary=0.1, writing=False, disc_shift_mm=(0.3, -0.3))
    image = simulate(exposure, detector, GEOMETRIES["standard_reader"], seed=3)
    return image, read_image(image.counts, 0.1).registration


def places(mosaic):
    """(16, 2, PATCH, 16, 2, PATCH) view of a mosaic."""
    return mosaic.reshape(16, 2, PATCH, 16, 2, PATCH)


def test_discs_lie_upper_left_and_lower_right_of_each_cell_and_nowhere_else(seen):
    image, registration = seen
    pixels = mosaic_pixels(registration, PATCH, image.counts.shape)
    assert pixels.shape == (mosaic_size(PATCH),) * 2 == (512, 512)
    labels = places(cut(image.structure, pixels))
    middle = labels[:, :, PATCH // 2 - 2 : PATCH // 2 + 2, :, :, PATCH // 2 - 2 : PATCH // 2 + 2]
    expected = np.where(CELL_PRESENT, np.arange(1, 17)[:, None], 0)
    for a, b in ((0, 0), (1, 1)):
        np.testing.assert_array_equal(middle[:, a, :, :, b].max((1, 3)), expected)
    for a, b in ((0, 1), (1, 0)):
        assert not labels[:, a, :, :, b].any()
    assert (places(pixels)[:, :, :, ~CELL_PRESENT[0]][0] == -1).all()


@pytest.mark.parametrize("orientation", range(1, 8))
def test_the_mosaic_does_not_depend_on_how_the_phantom_lies(seen, orientation):
    image, registration = seen
    counts, frame = image.counts, registration.disc_frame_px.copy()
    expected = cut(counts, mosaic_pixels(registration, PATCH, counts.shape))
    if orientation >= 4:
        counts, frame = counts[:, ::-1], frame * [-1, 1] + [[counts.shape[1] - 1, 0], [0, 0], [0, 0]]
    for _ in range(orientation % 4):
        # A quarter turn counter-clockwise takes (x, y) to (y, width - 1 - x).
        frame = frame[:, ::-1] * [1, -1] + [[0, counts.shape[1] - 1], [0, 0], [0, 0]]
        counts = np.rot90(counts)
    turned = dataclasses.replace(registration, disc_frame_px=frame)
    np.testing.assert_array_equal(cut(counts, mosaic_pixels(turned, PATCH, counts.shape)), expected)


def test_a_shift_of_whole_pixels_changes_nothing(seen):
    image, registration = seen
    expected = cut(image.counts, mosaic_pixels(registration, PATCH, image.counts.shape))
    counts = np.pad(image.counts, ((7, 0), (0, 5)))[:, 3:]
    moved = dataclasses.replace(
        registration, disc_frame_px=registration.disc_frame_px + np.array([[-3, 7], [0, 0], [0, 0]])
    )
    np.testing.assert_array_equal(cut(counts, mosaic_pixels(moved, PATCH, counts.shape)), expected)


def test_a_map_goes_back_to_the_pixels_that_it_came_from(seen):
    image, registration = seen
    shape = image.counts.shape
    pixels = mosaic_pixels(registration, PATCH, shape)
    rng = np.random.default_rng(0)
    values, other = rng.normal(size=pixels.shape), rng.normal(size=shape)
    # The transpose of cutting out, so that a gradient by the mosaic becomes the gradient by the image.
    back = scatter_back(values, pixels, shape)
    assert np.sum(back * other) == pytest.approx(np.sum(values * cut(other, pixels)), rel=1e-12)
    assert np.count_nonzero(back) == 205 * 4 * PATCH**2


def test_a_patch_of_an_odd_number_of_pixels_is_refused(seen):
    with pytest.raises(ValueError, match="patch_px: found 15, expected an even number"):
        mosaic_pixels(seen[1], 15, seen[0].counts.shape)
