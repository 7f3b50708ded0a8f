"""Explain many samplings of one original image and add the maps up where their pixels came from (algorithm 2)."""

from pathlib import Path

from xiqa.files import read_array
from xiqa.logs import Progress, log_to
from xiqa.models.ensemble import load_ensemble
from xiqa.models.midpoint import MidpointGradient
from xiqa.saliency.of_ensemble import ExplainedEnsemble, explain_ensemble
from xiqa.saliency.upsampling import shard_ranges, upsample, write_upsampling_shard
from xiqa.seeds import stream_seed


def upsample_shard(
    paths_to_weights: list[str],
    path_to_counts: str,
    method: str,
    options: dict,
    upsampling: dict,
    size: int,
    seed: int,
    shard: int,
    gradient: dict,
    path_to_shard: str,
    progress: Progress,
) -> None:
    """Write the sums over this shard's draws; the draws are the same however many shards there are."""
    ensemble = load_ensemble([Path(path).parent for path in paths_to_weights])
    target = ExplainedEnsemble(MidpointGradient(ensemble, **gradient))
    result = upsample(
        read_array(path_to_counts),
        lambda x: explain_ensemble(target, x, method, members=True, **options),
        size,
        shard_ranges(upsampling["draws"], upsampling["shards"])[shard],
        seed,
        batch=upsampling["batch"],
        without_replacement=upsampling["without_replacement"],
        normalise=ensemble.normalise,
        progress=lambda done, total: progress(done, total, "draws"),
    )
    write_upsampling_shard(path_to_shard, result)


if "snakemake" in globals():
    wildcards = snakemake.wildcards
    with log_to(
        snakemake.log[0], f"upsample {snakemake.params.method} of {wildcards.image}, shard {wildcards.shard}"
    ) as progress:
        upsample_shard(
            paths_to_weights=list(snakemake.input.models),
            path_to_counts=snakemake.input.counts,
            method=snakemake.params.method,
            options=snakemake.params.options,
            upsampling=snakemake.params.upsampling,
            size=snakemake.params.size,
            seed=stream_seed(snakemake.params.seed, "upsampling", wildcards.image),
            shard=snakemake.params.shard,
            gradient=snakemake.params.ensemble,
            path_to_shard=snakemake.output.shard,
            progress=progress,
        )
