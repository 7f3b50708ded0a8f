"""The curve from graded signals: closed forms, the analytic thresholds, and images that it must not be read from."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import dblquad

from xiqa.cdmam import curve, graded
from xiqa.cdmam.detectability import detectability_threshold_um
from xiqa.cdmam.detector import correlation_mm
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM, CELL_PRESENT, DIAMETERS_MM, GEOMETRIES
from xiqa.cdmam.reader import read_image
from xiqa.cdmam.simulator import simulate
from xiqa.config import Detector, Exposure

STANDARD = GEOMETRIES["standard_reader"]
EXPOSURE, DETECTOR = Exposure(tube_voltage_kv=26, exposure_mas=100, noise_level=14), Detector(pixel_mm=0.1)


@pytest.fixture(scope="module")
def image():
    counts = simulate(EXPOSURE, DETECTOR, STANDARD, seed=3).counts
    return counts, read_image(counts, DETECTOR.pixel_mm).registration


@pytest.fixture(scope="module")
def measured(image):
    return graded.measure(image[0], DETECTOR.pixel_mm, image[1])


def names(measurement):
    return [warning.name for warning in measurement.warnings]


@pytest.mark.parametrize(("radius", "blur", "distance"), [(0.7, 0.8, 0.0), (0.7, 0.8, 1.3), (4.0, 0.8, 3.7)])
def test_the_profile_is_a_disc_under_a_gaussian(radius, blur, distance):
    def weight(y, x):
        return np.exp(-((x - distance) ** 2 + y**2) / (2 * blur**2)) / (2 * np.pi * blur**2)

    def edge(x):
        return np.sqrt(max(radius**2 - x**2, 0))

    expected = dblquad(weight, -radius, radius, lambda x: -edge(x), edge)[0]
    assert graded.blurred_disc(np.array([distance]), radius, blur)[0] == pytest.approx(expected, rel=1e-6)


def test_one_image_gives_the_analytic_thresholds_of_the_known_place(measured):
    truth = detectability_threshold_um(EXPOSURE, DETECTOR, STANDARD, DIAMETERS_MM)
    error = (measured.ln_threshold - np.log(truth))[curve.CDC_ROWS]
    sd = np.sqrt(np.diag(measured.covariance))[curve.CDC_ROWS]
    assert (sd < 0.04).all()
    assert abs(error.mean()) < 0.05
    assert (abs(error) < 4 * sd).all()
    assert not measured.warnings


def test_blur_and_noise_are_as_correlated_as_their_kernels_say(measured):
    assert measured.correlation_mm == pytest.approx(correlation_mm(STANDARD, DETECTOR), rel=0.04)


def test_small_discs_under_coarse_noise_are_found_more_often_at_one_detectability():
    coarse, fine = (graded.expected_hit_rate(known(2.0), 0.17, length) for length in (0.1, 0.03))
    assert (coarse[10:] > fine[10:])[CELL_PRESENT[10:]].all()
    assert (graded.counted_threshold_um(known(2.0), 0.17, 0.1) < graded.counted_threshold_um(known(2.0), 0.17, 0.03))[
        6:
    ].all()


def test_displaced_discs_are_measured_where_they_lie(image, measured):
    registration = image[1]
    frame = registration.disc_frame_px.copy()
    frame[0] += (1.0, -0.8)  # 0.10 and 0.08 mm
    frame[1] *= 1.001
    displaced = replace(registration, disc_frame_px=frame)
    found = graded.measure(image[0], DETECTOR.pixel_mm, displaced)
    np.testing.assert_allclose(found.ln_threshold, measured.ln_threshold, atol=0.03)


def test_a_turned_and_mirrored_image_has_the_same_thresholds(image, measured):
    turned = np.ascontiguousarray(np.rot90(image[0])[:, ::-1])
    found = graded.measure(turned, DETECTOR.pixel_mm, read_image(turned, DETECTOR.pixel_mm).registration)
    np.testing.assert_allclose(found.ln_threshold, measured.ln_threshold, atol=0.002)


def test_images_of_another_exposure_are_named_and_widen_the_interval(measured):
    other = replace(measured, ln_threshold=measured.ln_threshold + 0.2, pattern=-measured.pattern)
    alike = replace(measured, ln_threshold=measured.ln_threshold + 0.005, pattern=-measured.pattern)
    mixed, single = graded.graded_curve([measured, other]), graded.graded_curve([measured, alike])
    assert [warning.name for warning in mixed.warnings] == ["images_differ"]
    assert not single.warnings
    width = [np.log(c.known_place_high_um / c.known_place_low_um) for c in (mixed, single)]
    assert (width[0] > 3 * width[1]).all()


def test_a_table_holds_what_the_curve_needs(measured):
    noted = replace(measured, warnings=(curve.CurveWarning("saturated", "a sentence"),))
    again = graded.from_table(graded.to_table({"a": measured, "b": noted}))
    assert list(again) == ["a", "b"]
    assert names(again["a"]) == []
    assert names(again["b"]) == ["saturated"]
    expected, found = graded.graded_curve([measured]).table, graded.graded_curve([again["a"]]).table
    np.testing.assert_allclose(found.drop(columns="censored"), expected.drop(columns="censored"))
    assert graded.from_table(graded.to_table({})) == {}


def test_inverted_pixel_values_give_the_same_curve(image, measured):
    counts, registration = image
    inverted = replace(registration, discs_dark=False)
    found = graded.measure(16383 - counts, DETECTOR.pixel_mm, inverted)
    np.testing.assert_allclose(found.ln_threshold, measured.ln_threshold, atol=0.01)


def test_pixels_that_are_not_linear_saturation_and_structure_are_named(image):
    counts, registration = image[0].astype(float), image[1]
    spacing = DETECTOR.pixel_mm
    assert "not_linear" in names(graded.measure(4000 * np.log(counts), spacing, registration))
    assert "not_linear" in names(graded.measure(counts**2, spacing, registration))
    floor = np.percentile(counts[CELL_WINDOW], 2)
    assert "saturated" in names(graded.measure(np.maximum(counts, floor), spacing, registration))
    rng = np.random.default_rng(0)
    spots = counts + 200 * (rng.random(counts.shape) < 0.002)
    assert "structure" in names(graded.measure(spots, spacing, registration))


@pytest.mark.parametrize(
    ("words", "disturb"),
    [
        ("whole columns of pixels vary", lambda c, x, y: c + 2 * np.sin(2 * np.pi * x / 8)),
        ("whole rows of pixels vary", lambda c, x, y: c * (1 + 0.003 * np.random.default_rng(0).normal(size=y.shape))),
        ("at a period of 2 mm", lambda c, x, y: c + 4 * np.sin(2 * np.pi * (0.8 * x + 0.6 * y) / 20)),
        ("steps of 32", lambda c, x, y: 32 * np.round(c / 32)),
    ],
)
def test_regular_structure_and_coarse_steps_are_named(image, words, disturb):
    counts, registration = image[0].astype(float), image[1]
    y, x = np.arange(counts.shape[0])[:, None], np.arange(counts.shape[1])
    found = graded.measure(disturb(counts, x, y), DETECTOR.pixel_mm, registration)
    assert words in " ".join(warning.message for warning in found.warnings)


CELL_WINDOW = np.s_[600:1400, 400:1000]


def test_what_returns_from_image_to_image_is_no_noise(image, measured):
    alone = graded.graded_curve([measured])
    assert alone.images == 1
    assert not alone.warnings
    twice = graded.graded_curve([measured, measured])
    assert "structure" in [warning.name for warning in twice.warnings]


def test_an_image_without_discs_has_no_curve(image):
    empty = simulate(EXPOSURE, DETECTOR, STANDARD, seed=3, discs=False).counts
    with pytest.raises(ValueError, match="found no discs that stand out"):
        graded.measure(empty, DETECTOR.pixel_mm, image[1])


def known(scale):
    return scale * (0.008 + 0.009 / DIAMETERS_MM + 0.0025 / DIAMETERS_MM**2)


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_counting_many_images_gives_the_equivalent_curve(scale):
    rates = graded.expected_hit_rate(known(scale), 0.17, 0.05)
    hits = np.random.default_rng(1).random((1000, 16, 16)) < rates
    counted = curve.standard_curve(np.where(CELL_PRESENT, np.where(hits, 1, 2), -1), bootstrap=0)
    equivalent = graded.counted_threshold_um(known(scale), 0.17, 0.05)
    measured = counted.side == ""
    assert measured.sum() >= 9
    np.testing.assert_allclose(equivalent[measured], counted.table["t_auto_um"][measured], rtol=0.04)


def test_nothing_is_held_to_the_phantoms_range():
    low = graded.counted_threshold_um(known(0.4), 0.17, 0.05)
    assert (low[:4] < 0.03).all()
    assert (np.diff(low) > 0).all()
    ratio = low / known(0.4)[curve.CDC_ROWS]
    assert (ratio > 1).all()
    high = graded.counted_threshold_um(known(12), 0.17, 0.05)
    assert high[-1] > 2


def test_the_curve_says_what_is_extrapolated(measured):
    better = replace(measured, ln_threshold=measured.ln_threshold - 1.2)
    result = graded.graded_curve([better])
    table = result.table
    assert list(table["diameter_mm"]) == list(CDC_DIAMETERS_MM)
    assert not table["censored"].any()
    assert result.side[0] == "below"
    assert (result.extrapolated == (table["t_auto_um"] < 0.03)).all()
    assert (table["ci_low_um"] < table["cdc_um"]).all()
    assert (table["cdc_um"] < table["ci_high_um"]).all()
    hopeless = replace(measured, ln_threshold=measured.ln_threshold + 9)
    hopeless.ln_threshold[13:] = np.inf
    last = graded.graded_curve([hopeless]).table.iloc[-1]
    assert last["censored"]
    assert np.isinf(last["ci_high_um"])
