"""Writes the spectrum tables beside it with spekpy (see README.md); never needed to run xiqa."""

import csv
from pathlib import Path

import spekpy

ANODE_ANGLE_DEG = 20.0
BIN_KEV = 0.5
DISTANCE_CM = 70.0
VOLTAGES_KV = range(22, 36)

for anode in ("Mo", "Rh", "W"):
    columns = {}
    for voltage_kv in VOLTAGES_KV:
        tube = spekpy.Spek(kvp=voltage_kv, th=ANODE_ANGLE_DEG, dk=BIN_KEV, targ=anode, z=DISTANCE_CM, mas=1)
        energies_kev, fluence = tube.get_spectrum(edges=False, flu=True, diff=False)
        columns[voltage_kv] = {round(float(e), 3): float(f) for e, f in zip(energies_kev, fluence, strict=True)}
    energies = sorted(set().union(*columns.values()))
    path = Path(__file__).with_name(f"spectrum_{anode.lower()}.csv")
    with open(path, "w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["energy_kev", *VOLTAGES_KV])
        for energy in energies:
            writer.writerow([energy, *(f"{columns[v].get(energy, 0.0):.5e}" for v in VOLTAGES_KV)])
    print(path, len(energies))
