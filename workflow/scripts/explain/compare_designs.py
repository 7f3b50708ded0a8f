"""Measure how much drawing without replacement lowers the error of an upsampled map at equal cost."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from xiqa.files import read_array, write_table
from xiqa.logs import Progress, log_to
from xiqa.models.ensemble import load_ensemble
from xiqa.models.midpoint import MidpointGradient
from xiqa.saliency.upsampling import mean_visits, relative_standard_error, upsample, upsampled_map
from xiqa.seeds import stream_seed

REPEATS = 2


def compare_designs(
    paths_to_weights: list[str], path_to_counts: str, draws: list[int], size: int, batch: int, seed: int,
    gradient: dict, path_to_table: str, progress: Progress,
) -> None:  # fmt: skip
    """Upsample the cheapest method twice per design and number of draws, with independent seeds.

    Half the mean square difference of two independent maps is the variance of one, whatever the design: unlike the
    standard error over draws it needs no assumption, and pixels that no draw visited count with the value 0.
    """
    ensemble = load_ensemble([Path(path).parent for path in paths_to_weights])
    midpoint = MidpointGradient(ensemble, **gradient)
    counts = read_array(path_to_counts)
    rows = []
    for number, (count, without) in enumerate(product(draws, (False, True))):
        shards = [
            upsample(
                counts, lambda x: -midpoint.gradient(x), size, range(count), stream_seed(seed, "designs", repeat),
                batch=batch, without_replacement=without, normalise=ensemble.normalise,
            )
            for repeat in range(REPEATS)
        ]  # fmt: skip
        first, second = (upsampled_map(shard).astype(np.float64) for shard in shards)
        rows.append(
            {"method": "gradient", "draws": count, "without_replacement": without,
             "mean_visits": mean_visits(shards[0]), "never_visited": float((shards[0].visits == 0).mean()),
             "relative_standard_error": relative_standard_error(shards[0]),
             "relative_error_between_repeats": np.sqrt(np.mean((first - second) ** 2) / np.mean(first**2 + second**2))}
        )  # fmt: skip
        progress(number + 1, 2 * len(draws), "designs")
    write_table(path_to_table, pd.DataFrame(rows))


if "snakemake" in globals():
    with log_to(snakemake.log[0], "compare designs of upsampling") as progress:
        compare_designs(
            paths_to_weights=list(snakemake.input.models),
            path_to_counts=snakemake.input.counts,
            **snakemake.params.designs,
            gradient=snakemake.params.ensemble,
            path_to_table=snakemake.output.table,
            progress=progress,
        )
