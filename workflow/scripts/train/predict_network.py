"""Predict all images outside training with one network."""

from pathlib import Path

import numpy as np

from xiqa.datasets.base import targets_of
from xiqa.files import read_array, read_table, write_table
from xiqa.logs import log_to
from xiqa.models.model import load_model, raw_outputs
from xiqa.models.zoo import build

KEPT = ("image", "patient", "grouping", "label", "label_name", "severity", "data")


def predict_images(paths: dict[str, str], path_to_predictions: str) -> None:
    """Write one row per image of validation, test and dose-response with the class probabilities, or the targets."""
    model = load_model(Path(paths["weights"]).parent, build)
    images, table = read_array(paths["images"]), read_table(paths["table"])
    part = read_table(paths["split"])["part"].to_numpy()
    rows = np.flatnonzero(np.isin(part, ["validation", "test", "severity"]))
    kept = [*(name for name in KEPT if name in table), *targets_of(table)]
    predicted = model.task.predictions(raw_outputs(model, images, rows))
    write_table(path_to_predictions, table.loc[rows, kept].assign(part=part[rows], **predicted))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"predict {snakemake.wildcards.dataset}"):
        predict_images(paths=dict(snakemake.input.items()), path_to_predictions=snakemake.output.predictions)
