"""CDMAM 4.0: simulated, read, and turned into a curve."""

import numpy as np
import pydicom
import pytest

from xiqa.cdmam import beam
from xiqa.cdmam.phantom import geometry_of, phantom
from xiqa.cdmam.projection import discs_px, markers_px
from xiqa.cdmam.simulator import noise_free, simulate, structure_labels, thickness_map
from xiqa.cli import main
from xiqa.config import Detector, Exposure

VERSION = phantom("4.0")
GEOMETRY = geometry_of("4.0")
EXPOSURE = Exposure(tube_voltage_kv=25, exposure_mas=110, noise_level=13.06)
DETECTOR = Detector(pixel_mm=0.1, blur_px=0.0, scatter_to_primary=0.0)


@pytest.fixture(scope="module")
def expected():
    return noise_free(EXPOSURE, DETECTOR, GEOMETRY)


def test_each_disc_has_the_contrast_of_its_own_thickness(expected):
    shift = np.array(simulate(EXPOSURE, DETECTOR, GEOMETRY).meta["shift_px"])[::-1]
    counts = beam.primary_counts(EXPOSURE, GEOMETRY)
    contrast = beam.gold_contrast(EXPOSURE, VERSION.thicknesses_um.ravel(), GEOMETRY).reshape(21, 16)
    seen = np.zeros(VERSION.present.shape, int)
    for i, j, x, y, radius in discs_px(GEOMETRY, DETECTOR, shift):
        reach = int(radius) + 3  # clear of lines and of the other disc
        box = expected[round(y) - reach : round(y) + reach + 1, round(x) - reach : round(x) + reach + 1]
        assert (counts - box).sum() / counts == pytest.approx(contrast[i, j] * np.pi * radius**2, rel=2e-3)
        seen[i, j] += 1
    assert (seen == 2).all()


def test_structures_and_thicknesses_say_what_each_pixel_shows():
    labels = structure_labels(EXPOSURE, DETECTOR, GEOMETRY)
    thickness = thickness_map(EXPOSURE, DETECTOR, GEOMETRY)
    assert np.array_equal(np.unique(labels), np.arange(24))
    assert np.unique(thickness)[1:] == pytest.approx(VERSION.materials_um)
    shift = np.array(simulate(EXPOSURE, DETECTOR, GEOMETRY).meta["shift_px"])[::-1]
    for i, j, x, y, _ in discs_px(GEOMETRY, DETECTOR, shift):
        assert labels[round(y), round(x)] == i + 1
        assert thickness[round(y), round(x)] == pytest.approx(VERSION.thicknesses_um[i, j])
    markers = markers_px(GEOMETRY, DETECTOR, shift)
    assert len(markers) == 42
    assert all(labels[round(y), round(x)] == VERSION.label_grid for x, y, _ in markers)
    print_free = structure_labels(EXPOSURE, Detector(**{**DETECTOR.model_dump(), "writing": False}), GEOMETRY)
    assert set(np.unique(labels[labels != print_free])) == {VERSION.label_writing}
    writing = np.argwhere(labels == VERSION.label_writing)
    assert writing.min() > 0  # the whole print lies on the frame, also without a margin


def test_simulated_files_say_so_and_which_phantom_they_show(tmp_path):
    common = ["simulate", "--scenario", "1", "--images", "1", "--jobs", "1", "--out", str(tmp_path)]
    assert main([*common, "--phantom", "4.0"]) == 0
    (path,) = tmp_path.iterdir()
    data = pydicom.dcmread(path)
    assert (data.PatientName, data.PatientID) == ("CDMAM^SIMULATED", "CDMAM40")
    assert "simulated" in data.ImageComments
    rows, columns = data.pixel_array.shape
    assert rows / columns == pytest.approx(23.5 / 17.9, rel=0.02)
