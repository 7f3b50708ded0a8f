"""Write the simulated twin of a data set in the real set's file format."""

import importlib
from pathlib import Path

from xiqa.config import Twin
from xiqa.datasets.twins.writing import start
from xiqa.logs import Progress, log_to


def write_twin(data_format: str, settings: dict, seed: int, folder: str, progress: Progress) -> None:
    """Write the files anew; twin.csv, which says what was simulated, comes last."""
    start(Path(folder))
    twin = importlib.import_module(f"xiqa.datasets.twins.{data_format}")
    twin.write(Path(folder), Twin(**settings), seed, progress)


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"write twin {snakemake.wildcards.dataset}") as progress:
        write_twin(
            data_format=snakemake.params.twin["format"],
            settings=snakemake.params.twin["settings"],
            seed=snakemake.params.twin["seed"],
            folder=snakemake.output.folder,
            progress=progress,
        )
