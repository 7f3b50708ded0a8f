"""Bring the images of a data set into one table, one array and one array of masks."""

import importlib
from pathlib import Path

from xiqa.config import Dataset
from xiqa.datasets.limits import Reading, reading
from xiqa.datasets.prepare import prepare, read_or_make_salt
from xiqa.files import read_table
from xiqa.logs import Progress, log_to


def prepare_dataset(
    folder: str, settings: dict, path_to_salt: str, seed: int, paths: dict[str, str], progress: Progress
) -> None:
    """Read the real files, or a twin's, which its table twin.csv marks as simulated, and check every image."""
    dataset = Dataset(**settings)
    reader = importlib.import_module(f"xiqa.datasets.{dataset.format}")
    twin = Path(folder, "twin.csv")
    simulated = twin.is_file()
    with reading(Reading(dataset.largest_image_mb)):
        prepare(
            reader.read(Path(folder), dataset),
            dataset,
            facts=read_table(twin) if simulated else None,
            # A simulated patient has no secret; equal studies then give equal bytes.
            salt=str(seed).encode() if simulated else read_or_make_salt(path_to_salt),
            paths=paths,
            progress=progress,
        )


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"prepare {snakemake.wildcards.dataset}") as progress:
        prepare_dataset(
            folder=snakemake.params.source["folder"],
            settings=snakemake.params.source["dataset"],
            path_to_salt=snakemake.params.salt,
            seed=snakemake.params.source["seed"],
            paths=dict(snakemake.output.items()),
            progress=progress,
        )
