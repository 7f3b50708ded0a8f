"""Blur, noise make-up and analytic detectability."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from xiqa.cdmam import beam
from xiqa.cdmam.detectability import detectability, detectability_threshold_um
from xiqa.cdmam.detector import gaussian_taps, noise_parameters, total_blur_px
from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.config import Detector, Exposure

STANDARD = GEOMETRIES["standard_reader"]


@pytest.mark.parametrize("sigma", [0.3, 0.55, 0.7, 1.6, 3.0])
def test_taps_are_scipys_gaussian(sigma):
    pulse = np.zeros(81)
    pulse[40] = 1
    taps = gaussian_taps(sigma)
    assert gaussian_filter1d(pulse, sigma)[40 : 40 + len(taps)] == pytest.approx(taps, abs=1e-15)
    assert gaussian_taps(0) == pytest.approx([1.0])


def test_published_filter_leaves_0_559_of_the_noise_level():
    taps = gaussian_taps(0.55)
    power = taps[0] ** 2 + 2 * np.sum(taps[1:] ** 2)
    lag = 2 * (taps[0] * taps[1] + taps[1] * taps[2])
    assert power == pytest.approx(0.559, abs=5e-4)  # once per axis, and the standard deviation is the root of both
    assert lag / power == pytest.approx(0.357, abs=5e-4)


def test_focal_spot_widens_the_blur_only_with_magnification():
    sharp, wide = Detector(), Detector(focal_spot_mm=0.4)
    box_px = 0.4 * (STANDARD.magnification - 1) / sharp.pixel_mm
    assert total_blur_px(STANDARD, sharp) == sharp.blur_px
    assert total_blur_px(STANDARD, wide) ** 2 == pytest.approx(sharp.blur_px**2 + box_px**2 / 12)


def test_physical_noise_follows_dose_as_counting_photons_does():
    low, high = (Exposure(tube_voltage_kv=28, exposure_mas=mas, noise="physical") for mas in (50, 200))
    detector = Detector()
    (_, per_count, _, electronic), again = (noise_parameters(e, detector, STANDARD) for e in (low, high))
    assert per_count == pytest.approx(again[1])  # one photon adds the same counts at any dose
    assert electronic == pytest.approx(again[3])
    counts = beam.primary_counts(low, STANDARD)
    photons = 0.7 * beam.absorbed_photons_per_mm2(low, STANDARD) * detector.pixel_mm**2
    assert np.sqrt(per_count * counts) / counts == pytest.approx(1 / np.sqrt(photons))
    published = Exposure(tube_voltage_kv=28, exposure_mas=50, noise_level=12)
    assert noise_parameters(published, detector, STANDARD) == (12.0, 0.0, 0.0, 0.0)


def test_detectability_of_a_disc_in_white_noise_is_contrast_times_root_of_area():
    exposure = Exposure(tube_voltage_kv=28, exposure_mas=100, noise_level=10)
    detector = Detector(blur_px=0, noise_filter_px=0)
    diameter_px = 1.0 * STANDARD.magnification / detector.pixel_mm
    signal = beam.primary_counts(exposure, STANDARD) * beam.gold_contrast(exposure, np.array([0.2]), STANDARD)[0]
    expected = signal / 10 * np.sqrt(np.pi / 4) * diameter_px
    found = detectability(exposure, detector, STANDARD, 1.0, 0.2)
    assert found == pytest.approx(expected, rel=0.02)  # pixels at the edge are covered in part
    assert detectability(exposure, detector, STANDARD, 1.0, 0.2, prewhitening=True) == pytest.approx(found)


def test_thresholds_fall_with_dose_and_size_and_order_the_scenarios():
    detector, diameters = Detector(), np.array([1.0, 0.5, 0.25, 0.1])
    table_1 = [(28, 115, 9.55), (25, 110, 13.06), (25, 110, 18.91), (25, 110, 22.91)]
    curves = [
        detectability_threshold_um(
            Exposure(tube_voltage_kv=kv, exposure_mas=mas, noise_level=level), detector, STANDARD, diameters
        )
        for kv, mas, level in table_1
    ]
    assert np.all(np.diff(curves, axis=0) > 0)
    assert np.all(np.diff(curves, axis=1) > 0)
    doses = [
        detectability_threshold_um(
            Exposure(tube_voltage_kv=28, exposure_mas=mas, noise="physical"), detector, STANDARD, diameters
        )
        for mas in (20, 80, 320)
    ]
    assert np.all(np.diff(doses, axis=0) < 0)
    # without electronic and structure noise the fall would be 2 for four times the dose
    assert np.all((doses[0] / doses[1] > 1.6) & (doses[0] / doses[1] < 2.6))


def test_standard_dose_is_plausible():
    """The matched observer, made human-equivalent, lies below the European acceptable limit at 60 to 100 mAs."""
    diameters = np.array([1.0, 0.5, 0.25, 0.1])
    factor = np.array([2.11, 1.98, 1.82, 1.50])
    acceptable = np.array([0.091, 0.150, 0.352, 1.68])
    for anode, filter_material, mas in (("Mo", "Mo", 60), ("Mo", "Mo", 100), ("W", "Rh", 80)):
        exposure = Exposure(anode=anode, filter=filter_material, tube_voltage_kv=28, exposure_mas=mas, noise="physical")
        found = factor * detectability_threshold_um(exposure, Detector(), STANDARD, diameters)
        assert np.all(found < acceptable)
        assert np.all(found > acceptable / 5)
