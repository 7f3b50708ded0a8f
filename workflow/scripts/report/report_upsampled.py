"""Upsampled maps of large images: how well they are known, what lies on the mask, and their picture."""

from pathlib import Path

import numpy as np
import pandas as pd

from xiqa.datasets.splits import upsampled_images
from xiqa.figures.saliency_maps import UpsampledImage, plot_upsampled_images
from xiqa.files import PackedMasks, read_array, read_json, read_table, write_figure, write_table
from xiqa.logs import log_to
from xiqa.names import method_name


def report(
    paths: dict[str, str], paths_to_maps: list[str], maps: list[tuple[str, int]], network: dict, path_to_shares: str,
    path_to_figure: str,
) -> None:  # fmt: skip
    """Write one row per map, and draw image, map, standard error and visits of each."""
    table, originals, masks = read_table(paths["table"]), read_array(paths["originals"]), PackedMasks(paths["masks"])
    chosen = upsampled_images(read_table(paths["chosen"]), masks)
    rows, shown = [], []
    for (method, number), path in zip(maps, paths_to_maps, strict=True):
        row, folder = chosen[number], Path(path).parent
        mask, values, summary = masks[row], np.asarray(read_array(path)), read_json(folder / "summary.json")
        size = np.abs(values, dtype=np.float64)
        share = float(size[mask].sum() / size.sum()) if mask.any() and size.any() else np.nan
        facts = {"image": table["image"].iloc[row], "label_name": table["label_name"].iloc[row]}
        area = float(mask.mean()) if mask.any() else np.nan
        rows.append(
            {**network, "method": method, **facts, **summary, "share_on_mask": share, "area_of_mask": area,
             "enrichment": share / area, "data": table["data"].iloc[row]}
        )  # fmt: skip
        parts = (read_array(folder / f"{name}.npy") for name in ("standard_error", "visits"))
        title = f"{method_name(method)}, {facts['label_name']}"
        shown.append(UpsampledImage(title, originals[row], mask, values, *map(np.asarray, parts)))
    write_table(path_to_shares, pd.DataFrame(rows))
    write_figure(path_to_figure, plot_upsampled_images(shown, data=table["data"].iloc[0]))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"report upsampled maps of {snakemake.wildcards.dataset}"):
        report(
            paths=dict(snakemake.input.items()),
            paths_to_maps=list(snakemake.input.maps),
            maps=snakemake.params.maps,
            network=snakemake.params.network,
            path_to_shares=snakemake.output.shares,
            path_to_figure=snakemake.output.figure,
        )
