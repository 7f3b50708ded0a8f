"""Simulate and read the images of one setting; keep what each network sees of them, and the curves of all readings."""

import numpy as np
import pandas as pd

from xiqa.cdmam.cells import cut, mosaic_pixels, mosaic_size
from xiqa.cdmam.curve import fit_curve
from xiqa.cdmam.graded import graded_curve, measure_visible
from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.cdmam.reader import read_image
from xiqa.cdmam.simulator import simulate
from xiqa.config import Detector, Exposure
from xiqa.datasets.sampling import draw_indices, sample
from xiqa.files import write_array, write_table
from xiqa.logs import Progress, log_to
from xiqa.seeds import stream_seed


def simulate_and_read(setting: str, plan: dict, paths: dict[str, str], progress: Progress) -> None:
    """Write sampled images and mosaics (n, 1, s, s) and the table of curves: label, counted, graded (of each image)."""
    exposure, detector = Exposure(**plan["exposure"]), Detector(**plan["detector"])
    geometry, used, margins = GEOMETRIES[plan["geometry"]], plan["images"], plan["margins_mm"]
    seed = stream_seed(plan["seed"], "generalise", setting)
    sampled = np.zeros((used, 1, plan["size"], plan["size"]), np.uint16)
    cells = np.zeros((used, 1, *2 * [mosaic_size(plan["patch_px"])]), np.uint16)
    corners, curves, total = [], [], used + plan["label_images"]
    for index in range(total):
        name = f"{setting}-{index}"
        counts = simulate(exposure, detector, geometry, margins[index % len(margins)], seed, index).counts
        reading = read_image(counts, detector.pixel_mm, name)
        corners.append(reading.corner)
        if index < used:
            rng = np.random.default_rng(stream_seed(seed, "sampling", index))
            sampled[index, 0] = sample(counts, *draw_indices(counts.shape, plan["size"], rng))
            cells[index, 0] = cut(counts, mosaic_pixels(reading.registration, plan["patch_px"], counts.shape))
        if index < used and plan["label_images"]:
            measured = list(measure_visible(counts, detector.pixel_mm, reading, name).values())
            curves += [graded_curve(measured).table.assign(kind="graded", image=name)] if measured else []
        progress(index + 1, total, "images simulated and read")
    corners = np.stack(corners)
    # The truth of a test setting rests on images of its own.
    labelled = {"label": corners[used:] if plan["label_images"] else corners, "counted": corners[:used]}
    for kind, detections in labelled.items():
        curves.append(fit_curve(detections, seed=stream_seed(seed, kind)).assign(kind=kind, image=""))
    write_array(paths["sampled"], sampled)
    write_array(paths["cells"], cells)
    write_table(paths["curves"], pd.concat(curves, ignore_index=True).assign(setting=setting))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"simulate and read {snakemake.wildcards.setting}") as progress:
        simulate_and_read(
            setting=snakemake.wildcards.setting,
            plan=snakemake.params.plan,
            paths=dict(snakemake.output.items()),
            progress=progress,
        )
