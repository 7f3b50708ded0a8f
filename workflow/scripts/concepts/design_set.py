"""Render the designed set of a twin, and measure the quality of each of its images."""

import pandas as pd

from xiqa.config import Dataset
from xiqa.datasets.designed import design
from xiqa.datasets.prepare import IMAGE_TYPE
from xiqa.files import read_table, write_array, write_table
from xiqa.logs import Progress, log_to
from xiqa.metrics.measures import MEASURES, correlations, measure


def design_set(paths: dict[str, str], settings: dict, seed: int, written: dict[str, str], progress: Progress) -> None:
    """Write images and table of the designed set, and the rank correlations of all measures on them."""
    dataset = Dataset(**settings)
    table = read_table(paths["table"])
    number = {name: getattr(dataset.concepts, f"{name}_images") for name in ("train", "test")}
    images, masks, made = design(
        dataset, table, read_table(paths["split"]), number | {"ladder": dataset.concepts.ladders}, seed, progress
    )
    spacing_mm = made[["spacing_row_mm", "spacing_column_mm"]].to_numpy()
    measured = pd.DataFrame(
        [measure(image, mask, tuple(mm)) for image, mask, mm in zip(images, masks, spacing_mm, strict=True)]
    )
    names = [name for name in MEASURES if name in measured]
    made = pd.concat([made, measured[names].add_prefix("measured_")], axis=1)
    write_array(written["images"], images.astype(IMAGE_TYPE))
    write_table(written["table"], made)
    write_table(written["correlations"], correlations(measured[made["part"] != "ladder"], names))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"design {snakemake.wildcards.dataset}") as progress:
        design_set(
            paths=dict(snakemake.input.items()),
            settings=snakemake.params.dataset,
            seed=snakemake.params.seed,
            written=dict(snakemake.output.items()),
            progress=progress,
        )
