"""Spectra, attenuation and gold contrast against published numbers."""

import numpy as np
import pytest

from xiqa.cdmam.beam import (
    REFERENCE,
    absorbed_photons_per_mm2,
    air_kerma_ugy_per_mas,
    attenuation_per_mm,
    gold_contrast,
    mean_counts,
    spectrum,
)
from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.config import Exposure


def _exposure(anode, filter_material, tube_voltage_kv, exposure_mas=100.0):
    return Exposure(
        anode=anode,
        filter=filter_material,
        tube_voltage_kv=tube_voltage_kv,
        exposure_mas=exposure_mas,
        noise="physical",
    )


def test_gold_contrast_agrees_with_the_european_guidelines_table_a6_1():
    published_percent = {0.1: 1.57, 0.5: 7.60, 1.0: 14.55, 1.5: 20.92, 2.0: 26.76}  # nominal 28 kV Mo/Mo
    found = 100 * gold_contrast(_exposure("Mo", "Mo", 28), np.array(list(published_percent)))
    assert found == pytest.approx(list(published_percent.values()), rel=0.05)


@pytest.mark.parametrize(
    ("anode", "filter_material", "tube_voltage_kv", "percent"),
    [("Mo", "Mo", 25, (1.72, 15.9, 29.1)), ("W", "Rh", 28, (1.34, 12.5, 23.4)), ("W", "Ag", 30, (1.11, 10.5, 19.8))],
)
def test_gold_contrast_of_other_beams(anode, filter_material, tube_voltage_kv, percent):
    """Computed independently with spekpy's own attenuation data for 0.1, 1 and 2 µm."""
    found = 100 * gold_contrast(_exposure(anode, filter_material, tube_voltage_kv), np.array([0.1, 1.0, 2.0]))
    assert found == pytest.approx(percent, rel=0.02)


def test_the_table_of_attenuation_is_what_xraylib_says_to_the_last_bit():
    from xiqa.cdmam.tables.build_attenuation import ENERGIES_KEV, columns

    built = columns()
    for material in ("PMMA", "Air", "CsI", "Be", "Al", "Se", "Mo", "Rh", "Ag", "W", "Au"):
        density, *mass = built[material]
        assert (attenuation_per_mm(material, ENERGIES_KEV) == np.array(mass) * density / 10).all()
    with pytest.raises(ValueError, match=r"found 17\.1 keV, expected a multiple of 0\.25 keV from 1 to 40 keV"):
        attenuation_per_mm("Au", np.array([17.1]))


def test_attenuation_of_gold_aluminium_and_pmma():
    energies = np.array([15.0, 17.5, 18.0, 19.0, 20.0, 22.0, 25.0])
    per_um = [0.316, 0.2135, 0.199, 0.173, 0.152, 0.119, 0.085]
    assert attenuation_per_mm("Au", energies) / 1000 == pytest.approx(per_um, rel=0.01)
    assert attenuation_per_mm("Al", np.array([18.0])) == pytest.approx(1.26, rel=0.01)
    assert attenuation_per_mm("PMMA", np.array([18.0])) == pytest.approx(0.085, rel=0.01)
    with pytest.raises(ValueError, match="PMMA"):
        attenuation_per_mm("paint", energies)


@pytest.mark.parametrize(
    ("anode", "filter_material", "tube_voltage_kv", "kerma_ugy"),
    [("Mo", "Mo", 25, 95), ("Mo", "Mo", 28, 132), ("W", "Rh", 28, 44)],
)
def test_air_kerma_per_mas(anode, filter_material, tube_voltage_kv, kerma_ugy):
    found = air_kerma_ugy_per_mas(anode, filter_material, tube_voltage_kv)
    assert found == pytest.approx(kerma_ugy, rel=0.04)
    half = air_kerma_ugy_per_mas(anode, filter_material, tube_voltage_kv, distance_mm=1400)
    assert half == pytest.approx(found / 4)


def test_spectrum_ends_at_the_tube_voltage_and_has_the_characteristic_lines():
    energies, photons = spectrum("Mo", "Mo", 28)
    assert np.all(photons[energies > 28] == 0)
    assert energies[np.argmax(photons)] == 17.25  # the bin of the K alpha lines, 17.37 and 17.48 keV
    assert photons[energies == 19.75] > 3 * photons[energies == 20.25]  # K beta before the filter's edge at 20.0 keV
    between = spectrum("Mo", "Mo", 27.5)[1]
    assert between == pytest.approx((spectrum("Mo", "Mo", 27)[1] + spectrum("Mo", "Mo", 28)[1]) / 2)
    with pytest.raises(ValueError, match="22 to 35"):
        spectrum("Mo", "Mo", 40)
    with pytest.raises(ValueError, match="Mo, Rh, W"):
        spectrum("Cu", "Mo", 28)


def test_thin_gold_takes_its_thickness_times_the_mean_attenuation():
    exposure = _exposure("Mo", "Rh", 28)
    thin = gold_contrast(exposure, np.array([1e-4, 2e-4, 0.0]))
    assert thin[1] / thin[0] == pytest.approx(2, rel=1e-4)
    assert thin[2] == 0
    per_um = attenuation_per_mm("Au", np.array([30.0, 15.0])) / 1000
    assert per_um[0] < thin[0] / 1e-4 < per_um[1]


@pytest.mark.parametrize("name", GEOMETRIES)
def test_counts_are_proportional_to_mas_and_meet_the_published_mean(name):
    geometry = GEOMETRIES[name]
    assert mean_counts(REFERENCE, geometry) == pytest.approx(488.1)
    one, two = (_exposure("W", "Rh", 29, mas) for mas in (50, 100))
    assert mean_counts(two, geometry) == pytest.approx(2 * mean_counts(one, geometry))
    assert absorbed_photons_per_mm2(two, geometry) == pytest.approx(2 * absorbed_photons_per_mm2(one, geometry))
    assert mean_counts(_exposure("Mo", "Mo", 28), geometry) > mean_counts(_exposure("Mo", "Mo", 25), geometry)
