"""Compare the maps of one network with the ground truth, and with each other."""

from pathlib import Path

import pandas as pd

from xiqa.config import FALLING
from xiqa.datasets.body import body_mask
from xiqa.files import read_array, read_table, write_table
from xiqa.logs import log_to
from xiqa.metrics.maps.agreement import agreement
from xiqa.metrics.maps.localisation import curves_of_maps, scores_of_maps
from xiqa.metrics.maps.pointing_game import scaled_tolerance_px
from xiqa.segmentation import segment


def score(
    paths: dict[str, str],
    paths_to_maps: dict[str, str],
    images: dict[str, str],
    network: dict[str, str],
    tolerance_width: int,
    paths_to_results: dict[str, str],
) -> None:
    """Write scores of each map, curves averaged over the test images, and the agreement of the methods.

    `images` selects, for each method, those of the chosen images that it explained.
    """
    pixels, masks, chosen = read_array(paths["images"]), read_array(paths["masks"]), read_table(paths["chosen"])
    tolerance_px = scaled_tolerance_px(pixels.shape[2], tolerance_width)
    # Segmenting costs more than all scores together: only the images that all methods explain have regions.
    costly = chosen.loc[chosen["costly"], "row"]
    segments = {row: segment(pixels[row][None]) if masks[row].any() else [] for row in costly}
    bodies = {row: body_mask(pixels[row]) for row in chosen["row"]}
    scores, curves, compared = [], [], {}
    for method, path in paths_to_maps.items():
        explained = chosen.query(images[method]).reset_index(drop=True)
        rows, maps = explained["row"].to_numpy(), read_array(path)
        maps = -maps if method in FALLING else maps
        compared[method] = maps[explained["costly"].to_numpy()]
        given = {"tolerance_px": tolerance_px, "segments": [segments.get(row) for row in rows]}
        found = scores_of_maps(maps, masks[rows] > 0, **given, within=[bodies[row] for row in rows])
        told = explained.loc[found.pop("image"), ["image", "part", "costly"]].reset_index(drop=True)
        scores.append(pd.concat([told, found], axis=1).assign(method=method))
        test = explained.index[explained["part"] == "test"]
        given["segments"] = [given["segments"][k] for k in test]
        curves.append(curves_of_maps(maps[test], masks[rows[test]] > 0, **given).assign(method=method))
    known = network | {"tolerance_px": tolerance_px}
    write_table(paths_to_results["scores"], pd.concat(scores, ignore_index=True).assign(**known))
    write_table(paths_to_results["curves"], pd.concat(curves, ignore_index=True))
    write_table(paths_to_results["agreement"], agreement(compared))


if "snakemake" in globals():
    names = snakemake.wildcards
    with log_to(snakemake.log[0], f"score maps of {names.architecture} on {names.dataset}"):
        score(
            paths={name: path for name, path in snakemake.input.items() if name != "maps"},
            paths_to_maps={Path(path).stem: path for path in snakemake.input.maps},
            images=snakemake.params.images,
            network={"architecture": names.architecture, "weights": names.weights, "seed": int(names.seed)},
            tolerance_width=snakemake.params.tolerance_width,
            paths_to_results=dict(snakemake.output.items()),
        )
