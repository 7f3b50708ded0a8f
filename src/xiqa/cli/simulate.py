"""`xiqa simulate`: images of the phantom to try things on."""

from __future__ import annotations

import argparse
from pathlib import Path

from xiqa.cdmam.dicom import write_dicom
from xiqa.cdmam.phantom import GEOMETRIES, VERSIONS, Geometry, geometry_of
from xiqa.cli.common import VERBS, cores, count, each, number
from xiqa.config import Detector, Exposure
from xiqa.qc.load import CURVE_OF_RECORD

SCENARIOS = {
    "1": Exposure(tube_voltage_kv=28, exposure_mas=115, noise_level=9.55),
    "2": Exposure(tube_voltage_kv=25, exposure_mas=110, noise_level=13.06),
    "3": Exposure(tube_voltage_kv=25, exposure_mas=110, noise_level=18.91),
    "4": Exposure(tube_voltage_kv=25, exposure_mas=110, noise_level=22.91),
    "ood": Exposure(tube_voltage_kv=23, exposure_mas=105, noise_level=6.04),
}
"""Exposure settings of table 1 of Amanova 2022."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Describe `xiqa simulate`."""
    simulate = commands.add_parser(
        "simulate",
        help=VERBS["simulate"],
        description="Writes images of the CDMAM phantom as DICOM (FOR PROCESSING). They say that they are simulated.",
    )
    simulate.add_argument("--scenario", required=True, choices=list(SCENARIOS), help="exposure setting of table 1")
    simulate.add_argument("--images", type=count(1), default=CURVE_OF_RECORD, help="how many (default: 16)")
    simulate.add_argument("--out", required=True, type=Path, help="folder for the images; made where it is missing")
    simulate.add_argument("--seed", type=count(0), default=0, help="seed of noise and shift (default: 0)")
    simulate.add_argument("--margin-mm", type=number(0, 60), default=2.0, help="margin around the matrix (default: 2)")
    simulate.add_argument("--phantom", choices=VERSIONS, default="3.4", help="version of the phantom (default: 3.4)")
    simulate.add_argument(
        "--geometry",
        choices=list(GEOMETRIES),
        default="standard_reader",
        help="beam, distances and detector, for 3.4 also pitch and offset (default: standard_reader)",
    )
    discs = simulate.add_argument_group(
        "discs printed off the grid", "All discs are displaced together against the grid, about the matrix centre."
    )
    discs.add_argument(
        "--disc-shift-mm",
        type=number(-1, 1),
        nargs=2,
        default=(0.0, 0.0),
        metavar=("X", "Y"),
        help="right and down on the detector",
    )
    discs.add_argument("--disc-rotation-deg", type=number(-1, 1), default=0.0, help="clockwise")
    discs.add_argument("--disc-scale", type=number(0.98, 1.02), default=1.0, help="of their distances from the centre")
    discs.add_argument(
        "--disc-skew",
        type=number(-0.02, 0.02),
        default=0.0,
        help="stretch along one diagonal, shrinkage along the other",
    )
    simulate.add_argument(
        "--jobs", type=count(1), default=cores(), help=f"images made at once (default: cores, {cores()})"
    )
    simulate.set_defaults(run=_simulate)


def _simulate_one(
    scenario: str, geometry: Geometry, margin_mm: float, detector: Detector, seed: int, index: int, path: Path
) -> None:
    """Simulate one image and write it."""
    from xiqa.cdmam.simulator import simulate

    exposure = SCENARIOS[scenario]
    image = simulate(exposure, detector, geometry, margin_mm, seed, index)
    series = f"scenario {scenario}, {geometry.name}, margin {margin_mm:g} mm, seed {seed}"
    displaced = {key: value for key, value in detector.model_dump(exclude_defaults=True).items() if "disc" in key}
    series += "".join(f", {key} {value}" for key, value in displaced.items())
    write_dicom(
        path,
        image.counts,
        exposure,
        detector,
        image_name=path.stem,
        series_name=series,
        instance_number=index + 1,
        version=geometry.version,
    )


def _simulate(options: argparse.Namespace) -> None:
    paths = [options.out / f"scenario_{options.scenario}_{index:03d}.dcm" for index in range(options.images)]
    detector = Detector(
        disc_shift_mm=tuple(options.disc_shift_mm),
        disc_rotation_deg=options.disc_rotation_deg,
        disc_scale=options.disc_scale,
        disc_skew=options.disc_skew,
    )
    geometry = geometry_of(options.phantom, options.geometry)
    tasks = [
        (options.scenario, geometry, options.margin_mm, detector, options.seed, index, path)
        for index, path in enumerate(paths)
    ]
    for _ in each(_simulate_one, tasks, options.jobs, "simulating"):
        pass
    print(f"{len(paths)} simulated images: {paths[0]} ... {paths[-1].name}")
    print(f"read them with: xiqa read {options.out} --out OUT")
