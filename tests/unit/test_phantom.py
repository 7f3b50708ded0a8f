"""The phantom's sizes, codes and places."""

import pickle

import numpy as np
import pytest
from pydantic import ValidationError

from xiqa.cdmam.phantom import (
    CELL_PRESENT,
    CORNER_CODES,
    CORNER_STEPS,
    DIAMETERS_MM,
    GEOMETRIES,
    THICKNESSES_UM,
    VERSIONS,
    PhantomFile,
    block_rows,
    cell_centres_mm,
    corner_places_mm,
    disc_centres_mm,
    geometry_of,
    grid_lines_mm,
    marker_centres_mm,
    matrix_box_mm,
    phantom,
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


def test_cdmam_40_has_336_cells_each_with_its_own_thickness():
    version = phantom("4.0")
    assert version.corner_codes.shape == version.thicknesses_um.shape == (21, 16)
    assert version.present.all()
    assert set(np.unique(version.corner_codes)) == {1, 2, 3, 4}
    assert np.all(np.diff(version.thicknesses_um) > 0)
    assert version.thicknesses_um[0, [0, -1]].tolist() == [0.012, 0.103]
    assert version.thicknesses_um[-1, [0, -1]].tolist() == [0.590, 2.800]
    assert "".join(str(code) for code in version.corner_codes[version.diameters_mm == 0.25][0]) == "1342112333414443"
    assert version.materials_um[version.material_of_cell] == pytest.approx(version.thicknesses_um)
    assert np.array_equal(version.curve_diameters_mm, version.diameters_mm)


def test_the_disc_of_a_code_lies_toward_thicker_or_thinner_and_larger_or_smaller_discs():
    version = phantom("4.0")  # upright: larger is up, thicker is right
    geometry = geometry_of("4.0")
    aside = disc_centres_mm(geometry)[1] - cell_centres_mm(geometry)
    assert np.abs(aside) == pytest.approx(0.255 * geometry.detector_pitch_mm)
    right, up = aside[..., 0] > 0, aside[..., 1] < 0
    assert np.array_equal(right, np.isin(version.corner_codes, (1, 2)))
    assert np.array_equal(up, np.isin(version.corner_codes, (1, 4)))
    assert np.array_equal(CORNER_STEPS[version.corner_codes][..., 0] < 0, up)


def test_cdmam_40_is_four_grids_with_gaps_of_half_a_cell_and_42_markers():
    geometry, version = geometry_of("4.0"), phantom("4.0")
    pitch = geometry.detector_pitch_mm
    x_min, y_min, x_max, y_max = matrix_box_mm(geometry)
    assert np.array([x_max - x_min, y_max - y_min]) / pitch == pytest.approx([16, 22.5])
    assert [rows.stop - rows.start for rows in block_rows(version)] == [10, 4, 4, 3]
    assert len(grid_lines_mm(geometry)) == 4 * 17 + 11 + 5 + 5 + 4
    starts = [version.diameters_mm[rows.start] for rows in block_rows(version)]
    assert starts == [2.00, 0.42, 0.21, 0.10]
    down = np.diff(cell_centres_mm(geometry)[:, 0, 1]) / pitch
    assert down == pytest.approx(np.where(np.isin(version.diameters_mm[1:], starts), 1.5, 1.0))
    markers = marker_centres_mm(geometry)
    assert len(markers) == 42
    lines = grid_lines_mm(geometry)
    upright = lines[np.isclose(lines[:, 0, 0], lines[:, 1, 0])][:, 0, 0]
    assert np.abs(markers[:, 0, None] - upright).min(axis=1).max() < 1e-9  # on the lines between columns
    assert len(marker_centres_mm(GEOMETRIES["ptb"])) == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_what_one_source_alone_says_is_labelled(version):
    known = phantom(version)
    assert pickle.loads(pickle.dumps(known)) is known
    if version == "3.4":
        assert not known.single_source.any()
        assert known.statements == ()
        return
    two = ~known.single_source
    assert two.sum() == 56
    assert two[known.diameters_mm >= 0.25, 12:].all()
    assert any(
        "280 of the 336 cells" in words and "one source alone (imageQCpy)" in words for words in known.statements
    )
    assert any(words.startswith("Assumed") and "pitch" in words for words in known.statements)
    assert any("Human factors" in words and "Open conflict" in words for words in known.statements)


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        (("geometry", "blocks", "value"), [10, 4, 4, 4], "the phantom has 21"),
        (("geometry", "pitch_mm", "known_from"), ["hearsay"], "expected keys of sources"),
        (("geometry", "eccentric_offset", "value"), 0.6, "less than 0.5"),
        (("curve", "human_factors", "value"), [1.0], "expected one for each of the curve's 21 diameters"),
        (("curve", "slope_diameters_mm", "value"), [0.31], "that no row of cells has"),
        (("cells", "rows", 3, "thicknesses_nm"), "12 15 14", "row of 1.2 mm"),
        (("cells", "rows", 3, "corners"), "5111111111111111", "pattern"),
        (("cells", "rows", 3, "diameter_mm"), 1.5, "diameters that fall"),
        (("pitch",), 9, "Extra inputs"),
    ],
)
def test_a_data_file_that_contradicts_itself_is_refused(where, value, words):
    content = phantom("4.0").file.model_dump(mode="json")
    part = content
    for key in where[:-1]:
        part = part[key]
    part[where[-1]] = value
    with pytest.raises(ValidationError, match=words):
        PhantomFile.model_validate(content)


def test_an_unknown_version_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"found version '3\.2', expected one of 3\.4, 4\.0"):
        phantom("3.2")
