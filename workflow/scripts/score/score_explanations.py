"""Score the upsampled explanations: modified images, and the share of each map on each structure."""

import numpy as np
import pandas as pd

from xiqa.files import read_array, read_labels, read_table, write_table
from xiqa.logs import Progress, log_to
from xiqa.metrics.modified_image import summarise_modified_images
from xiqa.metrics.structure_share import structure_share_rows, summarise_structure_share


def score(
    paths_to_checks: list[str],
    maps: list[dict],
    paths_to_maps: list[str],
    paths_to_structures: list[str],
    paths: dict[str, str],
    progress: Progress,
) -> None:
    """Write one row per image and form, one per map and structure, and their summaries over images."""
    modified = pd.concat(map(read_table, paths_to_checks), ignore_index=True)
    modified["data"] = np.where(modified["group"] == "recorded", "recorded", "simulated")
    write_table(paths["modified"], modified)
    write_table(paths["modified_summary"], summarise_modified_images(modified))
    parts = []
    for number, (name, path, structure) in enumerate(zip(maps, paths_to_maps, paths_to_structures, strict=True)):
        group = name["image"].split("-")[0]
        part = structure_share_rows(read_array(path), read_labels(structure), group=group, **name)
        parts.append(part.assign(data="recorded" if group == "recorded" else "simulated"))
        progress(number + 1, len(maps), "maps scored")
    shares = pd.concat(parts, ignore_index=True)
    write_table(paths["shares"], shares)
    upright = shares[~shares["image"].str.endswith("-rotated")]
    summary = [summarise_structure_share(part) for part in (upright.assign(group="all"), upright)]
    write_table(paths["shares_summary"], pd.concat(summary, ignore_index=True))


if "snakemake" in globals():
    with log_to(snakemake.log[0], "score explanations") as progress:
        score(
            paths_to_checks=list(snakemake.input.checks),
            maps=snakemake.params.maps,
            paths_to_maps=list(snakemake.input.maps),
            paths_to_structures=list(snakemake.input.structures),
            paths=dict(snakemake.output.items()),
            progress=progress,
        )
