"""Bring the images of a data set into one table, one array and one array of masks."""

import importlib
from pathlib import Path

from xiqa.config import Dataset
from xiqa.datasets.prepare import prepare, read_or_make_key
from xiqa.files import read_table
from xiqa.logs import Progress, log_to
from xiqa.registry import reader_module


def prepare_dataset(
    folder: str,
    settings: dict,
    path_to_key: str | None,
    results: str,
    seed: int,
    paths: dict[str, str],
    progress: Progress,
) -> None:
    """Read the real files, or a twin's with what its generator knows of them, and check every image."""
    dataset = Dataset(**settings)
    reader = importlib.import_module(reader_module(dataset.format))
    prepare(
        reader.read(Path(folder), dataset),
        dataset,
        facts=read_table(Path(folder, "twin.csv")) if dataset.simulated else None,
        # A simulated patient has no secret; equal studies then give equal bytes.
        key=str(seed).encode() if dataset.simulated else read_or_make_key(path_to_key, outside=results),
        paths=paths,
        progress=progress,
    )


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"prepare {snakemake.wildcards.dataset}") as progress:
        prepare_dataset(
            folder=snakemake.params.source["folder"],
            settings=snakemake.params.source["dataset"],
            path_to_key=snakemake.params.key,
            results=str(Path(snakemake.output.images).parents[2]),
            seed=snakemake.params.source["seed"],
            paths=dict(snakemake.output.items()),
            progress=progress,
        )
