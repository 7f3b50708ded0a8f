"""Count how often the draws of one original image visit each of its pixels, the same for every method."""

from xiqa.files import read_array, write_labels
from xiqa.logs import log_to
from xiqa.saliency.upsampling import count_visits
from xiqa.seeds import stream_seed


def count(
    path_to_counts: str, size: int, draws: int, without_replacement: bool, seed: int, path_to_visits: str
) -> None:
    """Write the visits (h, w)."""
    shape = read_array(path_to_counts).shape
    write_labels(path_to_visits, count_visits(shape, size, draws, seed, without_replacement))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"count visits of {snakemake.wildcards.image}"):
        count(
            path_to_counts=snakemake.input.counts,
            size=snakemake.params.size,
            draws=snakemake.params.upsampling["draws"],
            without_replacement=snakemake.params.upsampling["without_replacement"],
            seed=stream_seed(snakemake.params.seed, "upsampling", snakemake.wildcards.image),
            path_to_visits=snakemake.output.visits,
        )
