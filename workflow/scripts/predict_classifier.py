"""Predict all images outside training with one classifier."""

from pathlib import Path

import numpy as np

from xiqa.files import read_array, read_table, write_table
from xiqa.logs import log_to
from xiqa.models.classifier import load_classifier, predict
from xiqa.models.zoo import build

KEPT = ("image", "patient", "grouping", "label", "label_name", "severity", "data")


def predict_images(paths: dict[str, str], path_to_predictions: str) -> None:
    """Write one row per image of validation, test and dose-response with the probability of each class."""
    classifier = load_classifier(Path(paths["weights"]).parent, build)
    images, table = read_array(paths["images"]), read_table(paths["table"])
    part = read_table(paths["split"])["part"].to_numpy()
    rows = np.flatnonzero(np.isin(part, ["validation", "test", "severity"]))
    predictions = table.loc[rows, [name for name in KEPT if name in table]].assign(part=part[rows])
    for label, probability in enumerate(predict(classifier, images, rows).T):
        predictions[f"probability_{label}"] = probability
    write_table(path_to_predictions, predictions)


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"predict {snakemake.wildcards.dataset}"):
        predict_images(paths=dict(snakemake.input.items()), path_to_predictions=snakemake.output.predictions)
