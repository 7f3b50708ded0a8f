"""Explain one image per test group with OMIG for several lengths c and step numbers L (figure 14)."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from xiqa.cdmam.samples import first_of_each_group, read_samples
from xiqa.files import write_array, write_table
from xiqa.logs import Progress, log_to
from xiqa.models.ensemble import load_ensemble
from xiqa.models.midpoint import MidpointGradient
from xiqa.saliency.of_ensemble import ExplainedEnsemble, explain_ensemble


def compare_omig_parameters(
    paths_to_weights: list[str],
    paths_to_images: list[str],
    paths_to_tables: list[str],
    options: dict,
    gradient: dict,
    path_to_maps: str,
    path_to_table: str,
    progress: Progress,
) -> None:
    """Write maps (pairs of c and L, images, s, s) and what each does to the midpoint of its own sampled image."""
    ensemble = load_ensemble([Path(path).parent for path in paths_to_weights])
    midpoint = MidpointGradient(ensemble, **gradient)
    target = ExplainedEnsemble(midpoint)
    images, table = read_samples(paths_to_images, paths_to_tables, "test")
    chosen = first_of_each_group(table, 1)
    x = ensemble.normalise(images[chosen, 0])
    pairs = list(product(options["c_values"], options["step_values"]))
    maps, rows, before = [], [], midpoint.value(x)
    for number, (c, steps) in enumerate(pairs):
        options_of_pair = {"c": c, "steps": steps, "outlier_z": options["outlier_z"]}
        maps.append(explain_ensemble(target, x, "omig", **options_of_pair)[0])
        after = midpoint.value((x + maps[-1]).astype(np.float32))
        for position, image in enumerate(chosen):
            rows.append(
                {"image": table["image"][image], "group": table["group"][image], "c": c, "steps": steps,
                 "midpoint_before_um": before[position], "midpoint_after_um": after[position],
                 "map_norm": float(np.linalg.norm(maps[-1][position])), "data": table["data"][image]}
            )  # fmt: skip
        progress(number + 1, len(pairs), "pairs of c and L")
    write_array(path_to_maps, np.asarray(maps, np.float32))
    write_table(path_to_table, pd.DataFrame(rows))


if "snakemake" in globals():
    with log_to(snakemake.log[0], "compare c and L of OMIG") as progress:
        compare_omig_parameters(
            paths_to_weights=list(snakemake.input.models),
            paths_to_images=list(snakemake.input.images),
            paths_to_tables=list(snakemake.input.tables),
            options=snakemake.params.options,
            gradient=snakemake.params.ensemble,
            path_to_maps=snakemake.output.maps,
            path_to_table=snakemake.output.table,
            progress=progress,
        )
