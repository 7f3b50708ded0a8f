"""Put the validity flags of all maps of a data set into one table."""

import pandas as pd

from xiqa.files import read_table, write_table
from xiqa.logs import log_to


def tabulate(paths_to_checks: list[str], networks: list[dict], path_to_table: str) -> None:
    """Write one row per map: which network, method and image, and the flags."""
    parts = [read_table(path).assign(**network) for path, network in zip(paths_to_checks, networks, strict=True)]
    table = pd.concat(parts, ignore_index=True)
    first = ["architecture", "weights", "seed", "method"]
    write_table(path_to_table, table[[*first, *table.columns.drop(first)]])


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"tabulate saliency of {snakemake.wildcards.dataset}"):
        tabulate(
            paths_to_checks=list(snakemake.input.checks),
            networks=snakemake.params.networks,
            path_to_table=snakemake.output.checks,
        )
