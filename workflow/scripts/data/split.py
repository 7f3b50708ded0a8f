"""Divide a prepared data set into training, validation and test, by patient."""

from xiqa.config import Split
from xiqa.datasets.splits import split_images
from xiqa.files import read_table, write_table
from xiqa.logs import log_to


def split(path_to_table: str, settings: dict, seed: int, path_to_split: str) -> None:
    """Write the part of every image."""
    write_table(path_to_split, split_images(read_table(path_to_table), Split(**settings), seed))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"split {snakemake.wildcards.dataset}"):
        split(
            path_to_table=snakemake.input.table,
            settings=snakemake.params.split,
            seed=int(snakemake.wildcards.seed),
            path_to_split=snakemake.output.split,
        )
