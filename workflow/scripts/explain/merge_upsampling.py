"""Merge the shards of one upsampled map, with standard error and disagreement of the members."""

import numpy as np

from xiqa.figures.blocks import block_mean
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

BLOCK_PX = 4
"""Standard error and disagreement are means over blocks of so many pixels in each direction."""


def merge(paths_to_shards: list[str], paths: dict[str, str]) -> None:
    """Write the visit-normalised map; times visits and divided by draws, it is the published form."""
    shard = merge_upsampling_shards(paths_to_shards)
    write_array(paths["map"], upsampled_map(shard))
    if "visits" in paths:  # which other methods share, are counted once for all
        write_array(paths["visits"], block_mean(shard.visits, BLOCK_PX))
    write_array(paths["standard_error"], block_mean(standard_error(shard), BLOCK_PX))
    if "disagreement" in paths:
        members = shard.member_totals is not None
        values = disagreement(shard) if members else np.full_like(shard.total, np.nan)
        write_array(paths["disagreement"], block_mean(values, BLOCK_PX))
    write_json(
        paths["summary"],
        {
            "draws": shard.draws,
            "block_px": BLOCK_PX,
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
    with log_to(snakemake.log[0], f"merge {snakemake.wildcards.method}"):
        merge(paths_to_shards=list(snakemake.input.shards), paths=dict(snakemake.output.items()))
