"""How much of each map lies on each masked structure of a data set, against the share by area alone."""

import json

import numpy as np
import pandas as pd

from xiqa.datasets.base import mask_of
from xiqa.figures.style import data_of
from xiqa.files import PackedMasks, read_array, read_table, write_table
from xiqa.logs import log_to
from xiqa.metrics.structure_share import COLUMNS, structure_share_rows, summarise_structure_share

OUTSIDE = "outside"


def share(paths: dict[str, str], maps: list[dict], path_to_rows: str, path_to_summary: str) -> None:
    """Write one row per test image with a mask, structure, group and method, and their means over patients.

    Each of `maps` says its group (a seed, or the ensemble), its method, its path, and as a query which of the chosen
    images it shows.
    """
    masks, table, chosen = PackedMasks(paths["masks"]), read_table(paths["table"]), read_table(paths["chosen"])
    patients, named = table["patient"].to_numpy(), json.loads(table["structures"].iloc[0])
    packed, width = read_array(paths["structures"]), masks.shape[2]

    def structures(row: int) -> dict[str, np.ndarray]:
        further = np.unpackbits(packed[row], axis=-1, count=width) if named else []
        return {mask_of(table): masks[row], **dict(zip(named, further, strict=True))}

    parts = [pd.DataFrame(columns=[*COLUMNS, "patient"])]  # all that is left of a set without masks
    for told in maps:
        rows = chosen.query(told["images"])["row"].to_numpy()
        for row, saliency in zip(rows, read_array(told["path"]), strict=True):
            given = {"image": table["image"].iloc[row], "group": told["group"], "method": told["method"]}
            for name, mask in structures(row).items():
                if mask.any():
                    found = structure_share_rows(saliency, mask.astype(np.uint8), (OUTSIDE, name), **given)
                    parts.append(found[found["structure"] == name].assign(patient=patients[row]))
    shares, data = pd.concat(parts if len(parts) == 1 else parts[1:], ignore_index=True), data_of(table["data"])
    # Pseudonyms of patients, over which the means have their intervals, leave no stage.
    write_table(path_to_rows, shares.drop(columns=["diameter_mm", "patient"]).assign(data=data))
    write_table(path_to_summary, summarise_structure_share(shares).drop(columns="diameter_mm").assign(data=data))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"shares of maps of {snakemake.wildcards.dataset}"):
        share(
            paths={name: path for name, path in snakemake.input.items() if name != "maps"},
            maps=snakemake.params.maps,
            path_to_rows=snakemake.output.shares,
            path_to_summary=snakemake.output.summary,
        )
