"""The X-ray beam: spectra, attenuation, and the contrast of gold behind the phantom."""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import ArrayLike

from xiqa.cdmam.phantom import GEOMETRIES, Geometry
from xiqa.config import Exposure

TABLE_DISTANCE_MM = 700.0
"""Distance from the focal spot for which the spectra are tabulated, in mm."""

_FILTER_MM = {"Mo": 0.030, "Rh": 0.025, "Ag": 0.050, "Al": 0.700}
_TUNGSTEN_FILTER_MM = {"Rh": 0.050}
_KERMA_UGY_CM2_PER_KEV_CM2_G = 1.602176634e-16 * 1e3 * 1e6

REFERENCE = Exposure(tube_voltage_kv=25, exposure_mas=110, noise_level=18.91)
"""The setting to whose published images the counts are scaled."""

REFERENCE_COUNTS = 488.1
"""Mean counts of the background at `REFERENCE` in the published images."""

REFERENCE_SPR = 0.18
"""Their scatter-to-primary ratio."""


def filter_thickness_mm(anode: str, filter_material: str) -> float:
    """Usual thickness of a tube's filter in mm."""
    if anode == "W" and filter_material in _TUNGSTEN_FILTER_MM:
        return _TUNGSTEN_FILTER_MM[filter_material]
    return _FILTER_MM[filter_material]


@lru_cache(maxsize=1)
def _coefficients() -> tuple[dict[float, int], dict[str, np.ndarray]]:
    """Row of each energy in keV; densities in g/cm³ (row 0) and mass attenuation coefficients in cm²/g of materials."""
    with (files("xiqa.cdmam") / "tables" / "attenuation.csv").open(encoding="utf-8") as lines:
        names, *rows = csv.reader(lines)
    columns = dict(zip(names, np.array(rows, dtype=float).T, strict=True))
    return {float(energy): row for row, energy in enumerate(columns.pop("energy_kev"))}, columns


def _mass_attenuation(material: str, energies_kev: np.ndarray) -> np.ndarray:
    """(n,) in cm²/g of a column of the table."""
    row_of, columns = _coefficients()
    if unknown := [float(energy) for energy in energies_kev if float(energy) not in row_of]:
        raise ValueError(f"found {unknown[0]:g} keV, expected a multiple of 0.25 keV from 1 to 40 keV")
    return columns[material][[row_of[float(energy)] for energy in energies_kev]]


def attenuation_per_mm(material: str, energies_kev: np.ndarray) -> np.ndarray:
    """Linear attenuation coefficient with coherent scattering, from xraylib (tables/README.md).

    Args:
        material: chemical symbol, or "PMMA", "Air", "CsI".
        energies_kev: (n,) photon energies, multiples of 0.25 keV from 1 to 40 keV.

    Returns:
        (n,) float64, per mm.

    Raises:
        ValueError: the material or an energy is not in the table.
    """
    columns = _coefficients()[1]
    if material not in columns or "," in material:
        known = ", ".join(name for name in columns if "," not in name)
        raise ValueError(f"material {material!r}: found no attenuation of it, expected one of {known}")
    return _mass_attenuation(material, energies_kev) * columns[material][0] / 10


@lru_cache(maxsize=3)
def _table(anode: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    path = files("xiqa.cdmam") / "tables" / f"spectrum_{anode.lower()}.csv"
    with path.open(encoding="utf-8") as lines:
        rows = list(csv.reader(lines))
    content = np.array(rows[1:], dtype=float)
    return content[:, 0], np.array(rows[0][1:], dtype=float), content[:, 1:]


def spectrum(
    anode: str, filter_material: str, tube_voltage_kv: float, filter_mm: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Spectrum behind the tube's filter, without window, air or phantom.

    Between the tabulated whole kilovolts the fluence is interpolated linearly.

    Args:
        anode: "Mo", "Rh" or "W".
        filter_material: "Mo", "Rh", "Ag" or "Al".
        tube_voltage_kv: 22 to 35 kV.
        filter_mm: thickness of the filter; None for the usual one.

    Returns:
        energies (n,) in keV, the middles of bins of 0.5 keV; photons (n,) per mm², mAs and bin, 700 mm from the focal
        spot.

    Raises:
        ValueError: there is no table for the anode or the voltage.

    Reference: Poludniowski et al. 2021, Med. Phys. 48, 3630 (spekpy, from which the tables come; tables/README.md).
    """
    if anode not in ("Mo", "Rh", "W"):
        raise ValueError(f"anode {anode!r}: spectra exist for Mo, Rh, W")
    energies, voltages, fluence = _table(anode)
    if not voltages[0] <= tube_voltage_kv <= voltages[-1]:
        raise ValueError(f"tube voltage {tube_voltage_kv} kV: spectra exist for {voltages[0]:g} to {voltages[-1]:g} kV")
    lower = min(int(np.searchsorted(voltages, tube_voltage_kv, side="right")) - 1, len(voltages) - 2)
    share = (tube_voltage_kv - voltages[lower]) / (voltages[lower + 1] - voltages[lower])
    unfiltered = (1 - share) * fluence[:, lower] + share * fluence[:, lower + 1]
    thickness = filter_thickness_mm(anode, filter_material) if filter_mm is None else filter_mm
    return energies, unfiltered / 100 * np.exp(-attenuation_per_mm(filter_material, energies) * thickness)


def air_kerma_ugy_per_mas(
    anode: str, filter_material: str, tube_voltage_kv: float, distance_mm: float = 700.0, beryllium_mm: float = 0.5
) -> float:
    """Air kerma in µGy per mAs in vacuum at `distance_mm` from the focal spot, behind window and filter."""
    energies, photons = spectrum(anode, filter_material, tube_voltage_kv)
    photons = photons * np.exp(-attenuation_per_mm("Be", energies) * beryllium_mm) * 100
    recoil = energies / (energies + 511.0)
    photo, compton = (_mass_attenuation(f"Air, {process}", energies) for process in ("photoelectric", "Compton"))
    absorbed = photo + compton * recoil
    kerma = _KERMA_UGY_CM2_PER_KEV_CM2_G * np.sum(photons * energies * absorbed)
    return float(kerma * (TABLE_DISTANCE_MM / distance_mm) ** 2)


@lru_cache(maxsize=256)
def _absorbed(anode: str, filter_material: str, tube_voltage_kv: float, geometry: Geometry) -> tuple[np.ndarray, ...]:
    """Energies, and photons per mm² and mAs that the detector absorbs behind the phantom without gold."""
    override = dict(geometry.filter_mm).get(filter_material)
    energies, photons = spectrum(anode, filter_material, tube_voltage_kv, override)
    depth = sum(attenuation_per_mm(material, energies) * mm for material, mm in geometry.absorbers)
    absorbed = 1 - np.exp(-attenuation_per_mm(geometry.detector_material, energies) * geometry.detector_mm)
    distance = (TABLE_DISTANCE_MM / geometry.source_detector_mm) ** 2
    return energies, photons * np.exp(-depth) * absorbed * distance


def _weights(exposure: Exposure, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    energies, absorbed = _absorbed(exposure.anode, exposure.filter, exposure.tube_voltage_kv, geometry)
    return energies, absorbed * (energies if geometry.response == "energy" else 1.0)


def gold_contrast(
    exposure: Exposure, thickness_um: ArrayLike, geometry: Geometry = GEOMETRIES["standard_reader"]
) -> np.ndarray:
    """Contrast of a sheet of gold behind the phantom, without scatter: the share of the primary signal that it takes.

    With scatter divide by 1 + SPR.

    Args:
        exposure: anode, filter and tube voltage are used.
        thickness_um: (...) thickness of the gold.
        geometry: absorbers and detector.

    Returns:
        (...) float64 in 0 to 1.

    Reference: EUREF, European guidelines for quality assurance in breast cancer screening and diagnosis, 4th edition,
    supplement, table A6.1.
    """
    energies, weights = _weights(exposure, geometry)
    depth = np.asarray(thickness_um, dtype=float)[..., None] * 1e-3 * attenuation_per_mm("Au", energies)
    return -np.expm1(-depth) @ weights / weights.sum()


def primary_counts(exposure: Exposure, geometry: Geometry = GEOMETRIES["standard_reader"]) -> float:
    """Counts that the unscattered background adds to a pixel: proportional to mAs and to the signal per mAs.

    The scale is set once per geometry so that Mo/Mo, 25 kV, 110 mAs gives, with the published scatter-to-primary
    ratio, the mean of the published images. It does not depend on the pixel size.
    """
    signal = _weights(exposure, geometry)[1].sum() * exposure.exposure_mas
    reference = _weights(REFERENCE, geometry)[1].sum() * REFERENCE.exposure_mas
    return float(REFERENCE_COUNTS / (1 + REFERENCE_SPR) * signal / reference)


def mean_counts(
    exposure: Exposure,
    geometry: Geometry = GEOMETRIES["standard_reader"],
    scatter_to_primary: float = REFERENCE_SPR,
) -> float:
    """Mean counts of the background with scatter."""
    return primary_counts(exposure, geometry) * (1 + scatter_to_primary)


def absorbed_photons_per_mm2(exposure: Exposure, geometry: Geometry = GEOMETRIES["standard_reader"]) -> float:
    """Effective number of primary photons that the detector absorbs per mm² of background.

    For a detector that adds up energies it is (Σ nE)² / Σ nE²: the number of equal photons of the same relative noise.
    """
    energies, absorbed = _absorbed(exposure.anode, exposure.filter, exposure.tube_voltage_kv, geometry)
    weight = energies if geometry.response == "energy" else np.ones_like(energies)
    return float((absorbed @ weight) ** 2 / (absorbed @ weight**2) * exposure.exposure_mas)
