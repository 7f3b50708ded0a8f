"""CDMAM 4.0: simulated, read, and turned into a curve."""

import dataclasses
import io

import numpy as np
import pandas as pd
import pydicom
import pytest
from cases import long
from PIL import Image
from pypdf import PdfReader

from xiqa.cdmam import beam, graded
from xiqa.cdmam.curve import human_equivalent, seldom_hit, smooth, standard_curve, thresholds
from xiqa.cdmam.detectability import detectability_threshold_um
from xiqa.cdmam.dicom import write_dicom
from xiqa.cdmam.limits import default_limits_um, verdicts
from xiqa.cdmam.phantom import geometry_of, phantom
from xiqa.cdmam.projection import discs_px, markers_px
from xiqa.cdmam.reader import read_image
from xiqa.cdmam.registered import structure_of_reading
from xiqa.cdmam.simulator import noise_free, simulate, structure_labels, thickness_map
from xiqa.cli import main
from xiqa.config import Detector, Exposure
from xiqa.qc import CDMAM
from xiqa.qc.pdf import write_pdf
from xiqa.qc.record import read_record

VERSION = phantom("4.0")
GEOMETRY = geometry_of("4.0")
EXPOSURE = Exposure(tube_voltage_kv=25, exposure_mas=110, noise_level=13.06)
DETECTOR = Detector(pixel_mm=0.1, blur_px=0.0, scatter_to_primary=0.0)


@pytest.fixture(scope="module")
def expected():
    return noise_free(EXPOSURE, DETECTOR, GEOMETRY)


@pytest.fixture(scope="module")
def shift():
    """Of image 0, by row and column in pixels."""
    return np.array(simulate(EXPOSURE, DETECTOR, GEOMETRY).meta["shift_px"])[::-1]


def test_each_disc_has_the_contrast_of_its_own_thickness(expected, shift):
    counts = beam.primary_counts(EXPOSURE, GEOMETRY)
    contrast = beam.gold_contrast(EXPOSURE, VERSION.thicknesses_um.ravel(), GEOMETRY).reshape(21, 16)
    seen = np.zeros(VERSION.present.shape, int)
    for i, j, x, y, radius in discs_px(GEOMETRY, DETECTOR, shift):
        reach = int(radius) + 3  # clear of lines and of the other disc
        box = expected[round(y) - reach : round(y) + reach + 1, round(x) - reach : round(x) + reach + 1]
        assert (counts - box).sum() / counts == pytest.approx(contrast[i, j] * np.pi * radius**2, rel=2e-3)
        seen[i, j] += 1
    assert (seen == 2).all()


def test_structures_and_thicknesses_say_what_each_pixel_shows(shift):
    labels = structure_labels(EXPOSURE, DETECTOR, GEOMETRY)
    thickness = thickness_map(EXPOSURE, DETECTOR, GEOMETRY)
    assert np.array_equal(np.unique(labels), np.arange(24))
    assert np.unique(thickness)[1:] == pytest.approx(VERSION.materials_um)
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


# ---------------------------------------------------------------------------------------------------------------------
# The curve


def rates_of(threshold_um, slope=3.0):
    """Hit rates (21, 16) of an observer with a known threshold per diameter."""
    contrast, at = (np.log(-np.expm1(-0.19 * t)) for t in (VERSION.thicknesses_um, threshold_um))
    return 0.25 + 0.75 / (1 + np.exp(-slope * (contrast - at[:, None])))


def drawn(rates, images, seed=0):
    return np.where(np.random.default_rng(seed).random((images, *rates.shape)) < rates, 1, 2).astype(np.int8)


@pytest.mark.parametrize("share", [0.35, 0.5, 0.65])
def test_each_diameter_has_the_threshold_among_its_own_thicknesses(share):
    low, high = VERSION.thicknesses_um[:, 0], VERSION.thicknesses_um[:, -1]
    threshold = low ** (1 - share) * high**share
    found = thresholds(rates_of(threshold), version="4.0")
    assert found.t_auto_um == pytest.approx(threshold, rel=0.03)
    assert (found.side == 0).all()
    assert found.slope == pytest.approx(3.0, rel=0.1)


def test_a_threshold_outside_the_thicknesses_of_its_diameter_is_a_bound():
    low, high = VERSION.thicknesses_um[:, 0], VERSION.thicknesses_um[:, -1]
    below, above = thresholds(rates_of(low / 3), version="4.0"), thresholds(rates_of(high * 3), version="4.0")
    assert (below.side == -1).all()
    assert below.t_auto_um == pytest.approx(low)
    assert (above.side == 1).all()
    assert above.t_auto_um == pytest.approx(high)


def test_rates_below_chance_are_raised_before_the_smoothing_and_rows_meet_across_the_gaps():
    rates = np.full((21, 16), 0.25)
    rates[9] = 1.0
    smoothed = smooth(rates, version="4.0")
    assert smoothed[10] == pytest.approx(smoothed[8])  # a gap lies between the rows 9 and 10 only
    weight = np.exp(-0.5 * (np.arange(-3, 4) / 0.75) ** 2)
    assert smoothed[8, 8] == pytest.approx(0.25 + 0.75 * weight[2] / weight.sum())
    rates[:] = 0.0
    rates[9, 8] = 1.0
    assert smooth(rates, version="4.0")[9, 8] == pytest.approx(0.25 + 0.75 * (weight[3] / weight.sum()) ** 2)


def test_human_factors_multiply_the_contrast_of_each_diameter():
    t = VERSION.thicknesses_um[:, 8]
    human = human_equivalent(t, version="4.0")
    ratio = np.expm1(-0.19 * human) / np.expm1(-0.19 * t)
    assert ratio[[0, 9, 13, -1]] == pytest.approx([2.19, 1.91, 1.75, 1.41])
    assert human_equivalent(t, "thickness", version="4.0") == pytest.approx(t * ratio)


def test_what_rests_on_one_source_is_said_with_the_curve_and_there_is_no_limit_to_hold_it_against():
    found = standard_curve(drawn(rates_of(VERSION.thicknesses_um[:, 8]), 8), bootstrap=20, version="4.0")
    assert found.table["diameter_mm"].tolist() == VERSION.diameters_mm.tolist()
    assert found.table["single_source"].all()
    assert [warning.message for warning in found.warnings] == list(VERSION.statements)
    limits = default_limits_um("4.0")
    assert limits == {}
    assert verdicts(found.table, limits).empty
    own = {"of the user": {0.25: 0.45, 0.1: 1.9}}  # at diameters of CDMAM 4.0
    assert verdicts(found.table, own)["limit_um"].tolist() == [0.45, 1.9]


def test_a_thick_cell_that_is_almost_never_hit_is_named_as_a_possible_table_error():
    detections = drawn(rates_of(VERSION.thicknesses_um[:, 5]), 16)
    assert seldom_hit(detections == 1, "4.0") == []
    detections[:, 4, 12] = 2  # as where the table has the wrong corner
    detections[:3, 17, 14] = 1
    detections[3:, 17, 14] = 2
    assert seldom_hit(detections == 1, "4.0") == [(4, 12), (17, 14)]
    first, second = standard_curve(detections, bootstrap=0, version="4.0").warnings[:2]
    assert first.name == second.name == "possible table error"
    assert "1.00 mm and 0.091 µm is found in 0 of 16 images" in first.message
    assert "0.13 mm and 1.310 µm is found in 3 of 16 images" in second.message
    assert seldom_hit(detections[:6] == 1, "4.0") == []  # too few images to say so


def test_too_thin_a_cell_that_is_never_hit_is_no_table_error():
    rates = rates_of(VERSION.thicknesses_um[:, 10])
    found = [seldom_hit(drawn(rates, 16, seed) == 1, "4.0") for seed in range(30)]
    assert sum(len(cells) for cells in found) == 0


def test_matrices_of_another_version_are_refused_by_name():
    with pytest.raises(ValueError, match=r"found shape \(1, 16, 16\), expected \(images, 21, 16\)"):
        standard_curve(np.ones((1, 16, 16), np.int8), version="4.0")
    with pytest.raises(ValueError, match=r"expected 1 \(hit\) or 2 \(miss\) in its 336 cells"):
        standard_curve(np.zeros((1, 21, 16), np.int8), version="4.0")


# ---------------------------------------------------------------------------------------------------------------------
# The reader


@pytest.fixture(scope="module")
def with_margin():
    return noise_free(EXPOSURE, Detector(pixel_mm=0.1), GEOMETRY, 2.0)


@pytest.mark.parametrize("orientation", [5, *(long(o) for o in (0, 1, 2, 3, 4, 6, 7))])
def test_all_discs_of_a_noise_free_image_are_found_in_every_orientation(with_margin, orientation):
    image = np.rot90(with_margin[:, ::-1] if orientation >= 4 else with_margin, orientation % 4)
    reading = read_image(image, 0.1)
    assert reading.version == "4.0"  # as the grid shows
    assert (reading.corner == 1).sum() == 336
    assert (reading.centre == 1).sum() == 336
    placed = reading.registration
    assert placed.orientation == orientation
    assert placed.pitch_mm == pytest.approx(GEOMETRY.detector_pitch_mm, rel=1e-3)
    assert placed.eccentric_offset == pytest.approx(0.255, abs=0.002)
    assert placed.displacement.largest_mm < 0.01
    assert placed.discs_dark


def test_without_discs_a_quarter_is_hit():
    hits = []
    for index in range(2):
        image = simulate(EXPOSURE, Detector(pixel_mm=0.1), GEOMETRY, 2.0, index=index, discs=False)
        reading = read_image(image.counts, 0.1)
        assert not reading.registration.discs_visible
        hits.append((reading.corner == 1).sum())
    deviation = np.sqrt(0.25 * 0.75 / (2 * 336))
    assert np.sum(hits) / (2 * 336) == pytest.approx(0.25, abs=3 * deviation)


@pytest.mark.long
def test_discs_off_the_grid_and_another_pitch_and_offset_are_followed():
    displaced = Detector(pixel_mm=0.1, disc_shift_mm=(0.3, -0.2), disc_rotation_deg=0.1, tilt_deg=1.5)
    other = dataclasses.replace(GEOMETRY, pitch_mm=8.9, eccentric_offset=0.265)
    image = simulate(Exposure(tube_voltage_kv=25, exposure_mas=110, noise_level=4), displaced, other, 5.0)
    reading = read_image(image.counts, 0.1)
    straight = simulate(EXPOSURE.model_copy(update={"noise_level": 4}), Detector(pixel_mm=0.1), GEOMETRY, 5.0)
    assert (reading.corner == 1).sum() >= (read_image(straight.counts, 0.1).corner == 1).sum() - 7  # 2 %
    placed = reading.registration
    assert placed.pitch_mm == pytest.approx(8.9 * 1.035, rel=1e-3)
    assert placed.eccentric_offset == pytest.approx(0.265, abs=0.004)
    assert placed.displacement.shift_x_mm == pytest.approx(0.3, abs=0.04)
    assert placed.displacement.shift_y_mm == pytest.approx(-0.2, abs=0.04)
    found, true = structure_of_reading(reading, image.counts.shape, 0.1), image.structure
    discs = (true >= 1) & (true <= 21) & (true != VERSION.label_grid)
    assert (found[discs] == true[discs]).mean() > 0.8  # edges differ
    assert (found[true == VERSION.label_grid] == VERSION.label_grid).mean() > 0.8


def test_the_other_version_and_a_part_of_the_phantom_are_refused_by_name(with_margin):
    with pytest.raises(ValueError, match=r"chest: not a CDMAM"):
        read_image(with_margin, 0.1, name="chest", version="3.4")
    with pytest.raises(ValueError, match=r"image 3: cropped grid: 21 of the matrix's 336 cells"):
        read_image(with_margin[:, :-250], 0.1, name="image 3", version="4.0")
    with pytest.raises(ValueError, match=r"image 4: wrong pixel spacing: .* expected 8\.1-10\.8 mm on the detector"):
        read_image(with_margin, 0.2, name="image 4")


def test_where_the_grid_is_not_found_corners_of_a_block_help_and_tell_the_version(with_margin):
    image = np.rot90(with_margin[:, ::-1], 3)
    frame = read_image(image, 0.1).registration.frame_px
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] * 0.1
    lost = image * (0.6 + 0.12 * sum(np.cos(2 * np.pi * place / 17.3) for place in (x, y)))
    with pytest.raises(ValueError, match="not a CDMAM"):
        read_image(lost, 0.1)
    first, smaller, thicker = frame
    block = [first + i * smaller + j * thicker for i, j in ((0.5, 2.5), (8.5, 10.5), (0.5, 10.5), (8.5, 2.5))]
    reading = read_image(lost, 0.1, block_px=np.round(block), orientation=7)
    assert reading.version == "4.0"
    np.testing.assert_allclose(reading.registration.frame_px, frame, atol=0.5)
    assert (reading.corner == 1).sum() > 120  # the waves cost many; by chance it were 84 ± 8


# ---------------------------------------------------------------------------------------------------------------------
# The record


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with two images, from noisy enough a system to have thresholds among the discs."""
    folder = tmp_path_factory.mktemp("images")
    exposure, detector = EXPOSURE.model_copy(update={"noise_level": 30}), Detector(pixel_mm=0.1)
    for index in range(2):
        counts = simulate(exposure, detector, GEOMETRY, 2.0, index=index).counts
        write_dicom(folder / f"{index}.dcm", counts, exposure, detector, image_name=f"{index}", version="4.0")
    return folder


def test_the_record_names_the_phantom_and_what_rests_on_one_source_and_gives_no_verdict(files, tmp_path):
    assert main(["read", str(files), "--out", str(tmp_path), "--bootstrap", "20", "--jobs", "1"]) == 4
    record = read_record(tmp_path / "results.json")
    assert record.phantom == "CDMAM 4.0"
    assert (record.verdict, record.limits, record.options.limits) == ("not determined", (), None)
    assert record.options.human == "contrast"
    assert [point.diameter_mm for point in record.curve] == VERSION.diameters_mm.tolist()
    assert all(point.single_source for point in record.curve)
    assert set(VERSION.statements) <= set(record.warnings)
    assert any("simulated" in words for words in record.warnings)
    assert any("no limits are published" in words for words in record.warnings)
    assert len(record.images[0].corner) == 21
    python = CDMAM(files, version="4.0").analyze(bootstrap=20).results_data()
    assert python.curve == record.curve
    table = pd.read_csv(tmp_path / "curve.csv")
    assert table["single_source"].all()
    assert len((tmp_path / "0.corner.txt").read_text().split()) == 336
    words = " ".join(" ".join(page.extract_text() for page in PdfReader(tmp_path / "qa.pdf").pages).split())
    assert "CDMAM 4.0: contrast-detail curve" in words
    assert "No verdict: no limits" in words
    assert "280 of the 336 cells" in words
    assert (tmp_path / "curve.png").stat().st_size > 10_000


def test_limits_of_the_user_give_a_verdict_at_diameters_of_the_phantom(files, tmp_path, capsys):
    limits = tmp_path / "own.yaml"
    limits.write_text("name: own\ndecides: remedial\nlimits_um: {remedial: {0.42: 0.9, 0.88: 0.5}}\n", encoding="utf-8")
    options = ["--limits", str(limits), "--bootstrap", "20", "--no-pictures", "--jobs", "1", "--phantom", "4.0"]
    assert main(["read", str(files), "--out", str(tmp_path / "out"), *options]) == 0
    assert "CDMAM 4.0: 2 images; remedial limit met" in capsys.readouterr().out
    assert read_record(tmp_path / "out" / "results.json").limits[0].verdict == "met"


@pytest.fixture(scope="module")
def noisy():
    """An image of a system with blur and noise, and its exposure and detector."""
    exposure, detector = Exposure(tube_voltage_kv=26, exposure_mas=100, noise_level=14), Detector(pixel_mm=0.1)
    return simulate(exposure, detector, GEOMETRY, seed=3).counts, exposure, detector


def test_graded_signals_of_one_image_give_the_analytic_thresholds_of_the_known_place(noisy):
    counts, exposure, detector = noisy
    reading = read_image(counts, detector.pixel_mm, version="4.0")
    measured = graded.measure(counts, detector.pixel_mm, reading.registration, version="4.0")
    truth = detectability_threshold_um(exposure, detector, GEOMETRY, VERSION.diameters_mm)
    error = measured.ln_threshold - np.log(truth)
    assert abs(error.mean()) < 0.05
    assert (abs(error) < 0.10).all()
    assert not measured.warnings
    curve = graded.graded_curve([measured], draws=50)
    assert not curve.counting_equivalent
    assert not curve.table["counting_equivalent"].any()
    np.testing.assert_allclose(curve.table["t_human_um"], curve.known_place_um)  # no human factor
    np.testing.assert_allclose(curve.table["cdc_um"], curve.known_place_um, rtol=0.04)
    assert (np.log(truth) > np.log(curve.known_place_low_um) - 0.03).all()
    again = graded.from_table(graded.to_table({"a": measured}))["a"]
    assert again.version == "4.0"
    np.testing.assert_allclose(graded.graded_curve([again], draws=50).known_place_um, curve.known_place_um)
    with pytest.raises(ValueError, match=r"CDMAM 3\.4 and 4\.0, expected one phantom"):
        graded.graded_curve([measured, dataclasses.replace(measured, version="3.4")])


def test_the_record_of_graded_signals_says_that_it_stands_for_no_counted_curve(noisy, tmp_path):
    counts, exposure, detector = noisy
    path = tmp_path / "0.dcm"
    write_dicom(path, counts, exposure, detector, image_name="0", version="4.0")
    words = ["read", str(path), "--out", str(tmp_path / "out"), "--phantom", "4.0", "--method", "graded", "--jobs", "1"]
    assert main([*words, "--bootstrap", "20", "--no-pictures"]) == 4
    record = read_record(tmp_path / "out/results.json")
    said = "counting-equivalent is not calibrated for CDMAM 4.0"
    assert not record.counting_equivalent
    assert record.options.human is None
    assert record.verdict == "not determined"
    assert any(said in warning for warning in record.warnings)
    assert all(point.known_place_low_um < point.known_place_um < point.known_place_high_um for point in record.curve)
    assert not pd.read_csv(tmp_path / "out/curve.csv")["counting_equivalent"].any()
    figure = io.BytesIO()
    Image.new("L", (1, 1)).save(figure, "PNG")
    write_pdf(tmp_path / "qa.pdf", record, dict.fromkeys(("curve", "psychometric", "hits", "grid"), figure.getvalue()))
    text = " ".join(" ".join(page.extract_text().split()) for page in PdfReader(tmp_path / "qa.pdf").pages)
    assert text.count(said) == 2
    limits = tmp_path / "limits.yaml"
    limits.write_text("name: local\nsource: own\ndecides: acceptable\nlimits_um: {acceptable: {1.0: 0.05}}\n")
    images = CDMAM(path, version="4.0")
    for name, value in (("human", "contrast"), ("limits", limits)):
        with pytest.raises(ValueError, match=f"{name}: found some with the method graded, expected none"):
            images.analyze(method="graded", bootstrap=0, **{name: value})
