"""Explain the midpoint of the curve on sampled images, with the methods of one family."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from xiqa.cdmam.samples import first_of_each_group, read_samples
from xiqa.files import write_array, write_table
from xiqa.logs import Progress, log_to
from xiqa.models.ensemble import load_ensemble
from xiqa.models.midpoint import MidpointGradient
from xiqa.saliency.attribution import checks_of
from xiqa.saliency.of_ensemble import ExplainedEnsemble, explain_ensemble


def explain(
    paths_to_weights: list[str],
    paths_to_images: list[str],
    paths_to_tables: list[str],
    methods: dict[str, dict],
    images_per_group: int,
    gradient: dict,
    paths_to_maps: list[str],
    path_to_validity: str,
    progress: Progress,
) -> None:
    """Write one (n, s, s) float32 array of maps per method, and their validity flags."""
    ensemble = load_ensemble([Path(path).parent for path in paths_to_weights])
    target = ExplainedEnsemble(MidpointGradient(ensemble, **gradient))
    images, table = read_samples(paths_to_images, paths_to_tables, "test")
    chosen = first_of_each_group(table, images_per_group)
    x = ensemble.normalise(images[chosen, 0])
    flags = []
    for number, (path, (method, options)) in enumerate(zip(paths_to_maps, methods.items(), strict=True)):
        maps, _ = explain_ensemble(target, x, method, **options)
        write_array(path, np.asarray(maps, np.float32))
        checks = checks_of(target, torch.from_numpy(x[:, None]), {method: torch.from_numpy(maps)}, **options)
        flags.append(checks.assign(image=table["image"].iloc[chosen].to_numpy()))
        progress(number + 1, len(methods), f"methods ({method})")
    write_table(path_to_validity, pd.concat(flags, ignore_index=True))


if "snakemake" in globals():
    with log_to(snakemake.log[0], snakemake.rule) as progress:
        explain(
            paths_to_weights=list(snakemake.input.models),
            paths_to_images=list(snakemake.input.images),
            paths_to_tables=list(snakemake.input.tables),
            methods=snakemake.params.methods,
            images_per_group=snakemake.params.images_per_group,
            gradient=snakemake.params.ensemble,
            paths_to_maps=list(snakemake.output.maps),
            path_to_validity=snakemake.output.validity,
            progress=progress,
        )
