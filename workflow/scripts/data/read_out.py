"""Simulate full frames of one exposure setting and read each out: a detection matrix, and graded signals."""

import numpy as np

from xiqa.cdmam.graded import measure_visible
from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.cdmam.reader import read_image
from xiqa.cdmam.readings import write_readings
from xiqa.cdmam.registered import registration_facts
from xiqa.cdmam.simulator import simulate
from xiqa.config import Detector, Exposure
from xiqa.logs import Progress, log_to
from xiqa.seeds import stream_seed


def read_out(
    simulation: dict,
    setting: str,
    path_to_detections: str,
    path_to_graded: str,
    path_to_images: str,
    progress: Progress,
) -> None:
    """Read `simulation["readouts"]` frames without margin, one after the other, so that one frame is in memory."""
    exposure, detector = Exposure(**simulation["exposure"]), Detector(**simulation["detector"])
    geometry = GEOMETRIES[simulation["geometry"]]
    seed = stream_seed(simulation["seed"], "read out", setting)
    detections, measured, rows = [], {}, []
    for index in range(simulation["readouts"]):
        image = simulate(exposure, detector, geometry, margin_mm=0.0, seed=seed, index=index)
        reading = read_image(image.counts, detector.pixel_mm, name=f"{setting}-{index}")
        detections.append(np.stack([reading.corner, reading.centre]))
        measured |= measure_visible(image.counts, detector.pixel_mm, reading, reading.name)
        rows.append({"image": f"{setting}-{index}", **registration_facts(reading), "data": "simulated"})
        progress(index + 1, simulation["readouts"], "images read")
    write_readings(path_to_detections, path_to_graded, path_to_images, detections, measured, rows)


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"read out {snakemake.wildcards.setting}") as progress:
        read_out(
            simulation=snakemake.params.simulation,
            setting=snakemake.wildcards.setting,
            path_to_detections=snakemake.output.detections,
            path_to_graded=snakemake.output.graded,
            path_to_images=snakemake.output.images,
            progress=progress,
        )
