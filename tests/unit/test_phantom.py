"""The phantom's sizes, codes and places."""

import numpy as np
import pytest

from xiqa.cdmam.phantom import (
    CELL_PRESENT,
    CORNER_CODES,
    DIAMETERS_MM,
    GEOMETRIES,
    THICKNESSES_UM,
    cell_centres_mm,
    corner_places_mm,
    disc_centres_mm,
    grid_lines_mm,
    matrix_box_mm,
)


def test_the_phantom_has_205_cells_between_its_cut_corners():
    i, j = np.mgrid[0:16, 0:16]
    rule = (j - i >= -8) & (j - i <= 9) & (i + j > 0) & (i + j < 30)
    assert np.array_equal(CELL_PRESENT, rule)
    assert CELL_PRESENT.sum() == 205
    assert set(np.unique(CORNER_CODES)) == {0, 1, 2, 3, 4}


def test_sizes_fall_and_rise_as_the_manufacturer_states():
    assert DIAMETERS_MM[0] == 2.0
    assert DIAMETERS_MM[-1] == 0.06
    assert THICKNESSES_UM[0] == 0.03
    assert THICKNESSES_UM[-1] == 2.0
    assert np.all(np.diff(DIAMETERS_MM) < 0)
    assert np.all(np.diff(THICKNESSES_UM) > 0)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_orientation_and_bounding_box(name):
    geometry = GEOMETRIES[name]
    centres = cell_centres_mm(geometry)
    assert centres[0, 15, 0] == centres[..., 0].min()  # thick and large: left
    assert centres[15, 0, 0] == centres[..., 0].max()  # thin and small: right
    assert centres[15, 15, 1] == centres[..., 1].min()  # thick and small: top (y points down)
    assert centres[0, 0, 1] == centres[..., 1].max()  # thin and large: bottom
    x_min, y_min, x_max, y_max = matrix_box_mm(geometry)
    pitch = geometry.detector_pitch_mm
    assert x_max - x_min == pytest.approx(13.435 * pitch, rel=1e-4)
    assert y_max - y_min == pytest.approx(21.213 * pitch, rel=1e-4)
    corners = centres[CELL_PRESENT][:, None] + pitch / np.sqrt(2) * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    assert corners.min(axis=(0, 1)) == pytest.approx([x_min, y_min])
    assert corners.max(axis=(0, 1)) == pytest.approx([x_max, y_max])
    lines = grid_lines_mm(geometry).reshape(-1, 2)
    assert lines.min(axis=0) == pytest.approx([x_min, y_min])
    assert lines.max(axis=0) == pytest.approx([x_max, y_max])


@pytest.mark.parametrize("name", GEOMETRIES)
def test_eccentric_discs_lie_toward_the_neighbour_that_their_code_names(name):
    geometry = GEOMETRIES[name]
    cells, discs, places = cell_centres_mm(geometry), disc_centres_mm(geometry), corner_places_mm(geometry)
    toward = {1: (-1, 1), 2: (1, 1), 3: (1, -1), 4: (-1, -1)}  # (diameter index, thickness index)
    for i, j in np.argwhere(CELL_PRESENT):
        assert np.allclose(discs[0, i, j], cells[i, j])
        code = CORNER_CODES[i, j]
        assert np.allclose(discs[1, i, j], places[code - 1, i, j])
        di, dj = toward[code]
        if 0 <= i + di < 16 and 0 <= j + dj < 16:
            offset = geometry.eccentric_offset * (cells[i + di, j + dj] - cells[i, j])
            assert np.allclose(discs[1, i, j] - cells[i, j], offset)
    assert np.isnan(discs[:, ~CELL_PRESENT]).all()


def test_grid_encloses_each_cell_on_four_sides():
    geometry = GEOMETRIES["standard_reader"]
    pitch, lines = geometry.detector_pitch_mm, grid_lines_mm(geometry)
    assert len(lines) == 34
    for centre in cell_centres_mm(geometry)[CELL_PRESENT]:
        for angle in np.deg2rad([45, 135, 225, 315]):
            middle = centre + pitch / 2 * np.array([np.cos(angle), np.sin(angle)])
            along = lines[:, 1] - lines[:, 0]
            share = np.sum((middle - lines[:, 0]) * along, axis=1) / np.sum(along**2, axis=1)
            nearest = lines[:, 0] + share[:, None] * along
            on = (np.linalg.norm(nearest - middle, axis=1) < 1e-9) & (share > 0) & (share < 1)
            assert on.sum() == 1


def test_ptb_preset_measures_what_its_images_show():
    geometry = GEOMETRIES["ptb"]
    assert geometry.detector_pitch_mm == pytest.approx(10.35, abs=0.01)
    assert geometry.magnification * 1.6 == pytest.approx(1.77, abs=0.02)
    assert geometry.eccentric_offset * geometry.detector_pitch_mm == pytest.approx(2.77, abs=0.005)
