"""Simulate images of one exposure setting at random rows and columns: the rest of each is never computed."""

import numpy as np
import pandas as pd

from xiqa.cdmam.labels import own_label_um
from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.cdmam.simulator import frame_shape, simulate, simulate_sampled
from xiqa.config import Detector, Exposure
from xiqa.datasets.sampling import draw_indices
from xiqa.files import write_array, write_table
from xiqa.logs import Progress, log_to
from xiqa.seeds import stream_seed


def sample(
    simulation: dict, plan: dict, sampling: dict, setting: str, paths: dict[str, str], progress: Progress
) -> None:
    """Write images (n, K, s, s) uint16 counts, indices (n, K, 2, s) rows and columns, and one table row per image.

    Where the plan names what the human-equivalent factor multiplies (`own_labels`), each image is also computed in full
    and read for a label of its own.
    """
    exposure, detector = Exposure(**simulation["exposure"]), Detector(**simulation["detector"])
    geometry = GEOMETRIES[simulation["geometry"]]
    seed = stream_seed(simulation["seed"], "image", setting)
    number, repeats, size = len(plan["rows"]), plan["samplings"], sampling["size"]
    images = np.zeros((number, repeats, size, size), np.uint16)
    indices = np.zeros((number, repeats, 2, size), np.int32)
    rows = []
    for index, planned in enumerate(plan["rows"]):
        margin_mm = planned["margin_mm"]
        height, width = frame_shape(geometry, detector, margin_mm)
        for repeat in range(repeats):
            rng = np.random.default_rng(stream_seed(seed, "sampling", index, repeat))
            chosen = draw_indices((height, width), size, rng)
            images[index, repeat] = simulate_sampled(exposure, detector, geometry, margin_mm, seed, index, *chosen)
            indices[index, repeat] = chosen
        rows.append(
            {"image": f"{setting}-{index}", "setting": setting, "part": plan["part"], **planned, "index": index,
             "height": height, "width": width, "pixel_mm": detector.pixel_mm, "data": "simulated"}
        )  # fmt: skip
        if plan.get("own_labels"):
            whole = simulate(exposure, detector, geometry, margin_mm=margin_mm, seed=seed, index=index).counts
            rows[-1]["label_um"] = own_label_um(whole, detector.pixel_mm, plan["own_labels"], rows[-1]["image"])
        progress(index + 1, number, "images sampled")
    write_array(paths["images"], images)
    write_array(paths["indices"], indices)
    write_table(paths["table"], pd.DataFrame(rows))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"sample {snakemake.wildcards.setting}") as progress:
        sample(
            simulation=snakemake.params.simulation,
            plan=snakemake.params.plan,
            sampling=snakemake.params.sampling,
            setting=snakemake.wildcards.setting,
            paths=dict(snakemake.output.items()),
            progress=progress,
        )
