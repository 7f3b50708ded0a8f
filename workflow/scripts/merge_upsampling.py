"""Merge the shards of one upsampled map, with visits, standard error and disagreement of the members."""

import numpy as np

from xiqa.files import write_array, write_json
from xiqa.logs import log_to
from xiqa.saliency.upsampling import (
    disagreement,
    mean_visits,
    merge_upsampling_shards,
    relative_standard_error,
    standard_error,
    upsampled_map,
)


def merge(paths_to_shards: list[str], paths: dict[str, str]) -> None:
    """Write the visit-normalised map; times visits and divided by draws, it is the published form."""
    shard = merge_upsampling_shards(paths_to_shards)
    write_array(paths["map"], upsampled_map(shard))
    write_array(paths["visits"], shard.visits)
    write_array(paths["standard_error"], standard_error(shard))
    members = shard.member_totals is not None
    write_array(paths["disagreement"], disagreement(shard) if members else np.full_like(shard.total, np.nan))
    write_json(
        paths["summary"],
        {
            "draws": shard.draws,
            "without_replacement": shard.without_replacement,
            "mean_visits": mean_visits(shard),
            "never_visited": float((shard.visits == 0).mean()),
            "relative_standard_error": finite(relative_standard_error(shard)),
        },
    )


def finite(value: float) -> float | None:
    """JSON knows no NaN."""
    return float(value) if np.isfinite(value) else None


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"merge {snakemake.wildcards.method} of {snakemake.wildcards.image}"):
        merge(paths_to_shards=list(snakemake.input.shards), paths=dict(snakemake.output.items()))
