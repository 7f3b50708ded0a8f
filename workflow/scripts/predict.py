"""Predict the contrast-detail curve of every test image with the ensemble, with its uncertainty."""

from pathlib import Path

from xiqa.cdmam.labels import labels_of
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM
from xiqa.cdmam.samples import read_samples
from xiqa.files import read_table, write_table
from xiqa.logs import log_to
from xiqa.metrics.prediction import predictions_table
from xiqa.models.ensemble import load_ensemble, predict


def predict_curves(
    paths_to_weights: list[str],
    path_to_curves: str,
    paths_to_images: list[str],
    paths_to_tables: list[str],
    path_to_predictions: str,
) -> None:
    """Write one row per image and diameter: truth, prediction, aleatoric and epistemic standard uncertainty."""
    ensemble = load_ensemble([Path(path).parent for path in paths_to_weights])
    images, table = read_samples(paths_to_images, paths_to_tables, "test")
    truth_um, censored = labels_of(read_table(path_to_curves), list(table["setting"]))
    predicted = predict(ensemble, ensemble.normalise(images[:, 0]))
    rows = predictions_table(
        list(table["image"]), list(table["group"]), CDC_DIAMETERS_MM, truth_um, predicted, censored
    )
    rows = rows.merge(table[["image", "margin_mm", "data"]], on="image", how="left", sort=False)
    write_table(path_to_predictions, rows)


if "snakemake" in globals():
    with log_to(snakemake.log[0], "predict"):
        predict_curves(
            paths_to_weights=list(snakemake.input.models),
            path_to_curves=snakemake.input.curves,
            paths_to_images=list(snakemake.input.images),
            paths_to_tables=list(snakemake.input.tables),
            path_to_predictions=snakemake.output.predictions,
        )
