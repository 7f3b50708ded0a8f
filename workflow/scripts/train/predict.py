"""Predict the contrast-detail curve of every test image with the ensemble, with its uncertainty, raw and calibrated."""

from pathlib import Path

import pandas as pd

from xiqa.cdmam.labels import labels_of
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM
from xiqa.cdmam.samples import read_samples
from xiqa.files import read_table, write_table
from xiqa.logs import log_to
from xiqa.metrics.calibration import calibrate, scale_of
from xiqa.metrics.prediction import predictions_table
from xiqa.models.ensemble import Ensemble, load_ensemble, predict


def predict_curves(
    paths_to_weights: list[str],
    path_to_curves: str,
    test: dict[str, list[str]],
    validation: dict[str, list[str]],
    path_to_predictions: str,
    path_to_calibration: str,
) -> None:
    """Write one row per image and diameter: truth, prediction, uncertainties as predicted and calibrated."""
    ensemble = load_ensemble([Path(path).parent for path in paths_to_weights])
    curves = read_table(path_to_curves)
    rows = predict_part(ensemble, curves, validation, "validation") if validation["images"] else None
    calibration = calibrate(rows)
    write_table(path_to_calibration, calibration)
    write_table(path_to_predictions, predict_part(ensemble, curves, test, "test", scale_of(calibration)))


def predict_part(
    ensemble: Ensemble, curves: pd.DataFrame, samples: dict[str, list[str]], part: str, scale: float | None = None
) -> pd.DataFrame:
    """Rows of predictions.csv for the sampled images of one part."""
    images, table = read_samples(samples["images"], samples["tables"], part)
    truth_um, censored = labels_of(curves, list(table["setting"]))
    predicted = predict(ensemble, ensemble.normalise(images[:, 0]))
    names, groups = list(table["image"]), list(table["group"])
    rows = predictions_table(names, groups, CDC_DIAMETERS_MM, truth_um, predicted, censored, scale)
    return rows.merge(table[["image", "margin_mm", "data"]], on="image", how="left", sort=False)


if "snakemake" in globals():
    with log_to(snakemake.log[0], "predict"):
        predict_curves(
            paths_to_weights=list(snakemake.input.models),
            path_to_curves=snakemake.input.curves,
            test={"images": list(snakemake.input.images), "tables": list(snakemake.input.tables)},
            validation={
                "images": list(snakemake.input.validation_images),
                "tables": list(snakemake.input.validation_tables),
            },
            path_to_predictions=snakemake.output.predictions,
            path_to_calibration=snakemake.output.calibration,
        )
