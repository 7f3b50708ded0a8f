"""Writes attenuation.csv beside it with xraylib (see README.md); never needed to run xiqa."""

import csv
from pathlib import Path

import numpy as np
import xraylib

ENERGIES_KEV = np.arange(1.0, 40.01, 0.25)
ELEMENTS = ("Be", "Al", "Se", "Mo", "Rh", "Ag", "W", "Au")
COMPOUNDS = {
    "PMMA": "Polymethyl Methacralate (Lucite, Perspex)",
    "Air": "Air, Dry (near sea level)",
    "CsI": "Cesium Iodide",
}


def columns() -> dict[str, list[float]]:
    """Mass attenuation coefficients in cm²/g with coherent scattering, their first entry the density in g/cm³."""
    energies = [float(energy) for energy in ENERGIES_KEV]
    found = {"energy_kev": [float("nan"), *energies]}
    for symbol in ELEMENTS:
        number = xraylib.SymbolToAtomicNumber(symbol)
        found[symbol] = [xraylib.ElementDensity(number), *(xraylib.CS_Total(number, energy) for energy in energies)]
    for name, nist in COMPOUNDS.items():
        density = xraylib.GetCompoundDataNISTByName(nist)["density"]
        found[name] = [density, *(xraylib.CS_Total_CP(nist, energy) for energy in energies)]
    # xraylib's own energy-absorption table is a third too low between its nodes at 10 and 40 keV: its parts are kept.
    air = COMPOUNDS["Air"]
    found["Air, photoelectric"] = [float("nan"), *(xraylib.CS_Photo_CP(air, energy) for energy in energies)]
    found["Air, Compton"] = [float("nan"), *(xraylib.CS_Compt_CP(air, energy) for energy in energies)]
    return found


if __name__ == "__main__":
    with Path(__file__).with_name("attenuation.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table, lineterminator="\n")
        made = columns()
        writer.writerow(made)
        writer.writerows(zip(*(map(repr, values) for values in made.values()), strict=True))
