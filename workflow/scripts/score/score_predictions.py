"""Score the predicted curves beside two answers that need no network: the training mean and a background shortcut."""

import numpy as np

from xiqa.cdmam.graded import from_table
from xiqa.cdmam.labels import training_labels_um
from xiqa.cdmam.phantom import GEOMETRIES
from xiqa.cdmam.samples import read_samples
from xiqa.cdmam.shortcut import background_statistics, fit_shortcut
from xiqa.config import Detector, Exposure
from xiqa.files import read_table, write_table
from xiqa.logs import log_to
from xiqa.metrics.curve_methods import analytic_curve_um, curve_methods
from xiqa.metrics.maps.beside import with_published
from xiqa.metrics.prediction import diameter_scores, prediction_scores, uncertainty_dependence


def score(
    path_to_predictions: str,
    path_to_curves: str,
    training: dict[str, list[str]],
    test: dict[str, list[str]],
    paths_to_graded: dict[str, str],
    simulations: dict[str, dict],
    human: str,
    path_to_scores: str,
    path_to_diameter_scores: str,
    path_to_dependence: str,
    path_to_curve_methods: str,
) -> None:
    """The shortcut is a regression on the background's mean and standard deviation in the same training images.

    Beside it, the ways to a curve are compared on the simulated test groups, against the analytic curve of each.
    """
    curves, predictions = read_table(path_to_curves), read_table(path_to_predictions)
    images, table = read_samples(training["images"], training["tables"], "train")
    labels_um = training_labels_um(curves, table)
    shortcut = fit_shortcut(background_statistics(images[:, 0]), labels_um)
    tested, table = read_samples(test["images"], test["tables"], "test")
    if list(np.repeat(table["image"], labels_um.shape[1])) != list(predictions["image"]):
        raise ValueError(f"{path_to_predictions}: found other images than the test tables list; predict again")
    predictions["shortcut_um"] = shortcut.predict(background_statistics(tested[:, 0])).ravel()
    scores = prediction_scores(predictions, labels_um.mean(0))
    write_table(path_to_scores, with_published({"prediction_scores": scores}, "cdmam")["prediction_scores"])
    write_table(path_to_diameter_scores, diameter_scores(predictions))
    write_table(path_to_dependence, uncertainty_dependence(predictions))
    truths = {}
    for group, made in simulations.items():
        exposure, detector = Exposure(**made["exposure"]), Detector(**made["detector"])
        truths[group] = analytic_curve_um(exposure, detector, GEOMETRIES[made["geometry"]], human)
    measured = {group: from_table(read_table(paths_to_graded[group])) for group in simulations}
    write_table(path_to_curve_methods, curve_methods(truths, curves, measured, predictions, human))


if "snakemake" in globals():
    with log_to(snakemake.log[0], "score predictions"):
        score(
            path_to_predictions=snakemake.input.predictions,
            path_to_curves=snakemake.input.curves,
            training={"images": list(snakemake.input.training_images), "tables": list(snakemake.input.training_tables)},
            test={"images": list(snakemake.input.test_images), "tables": list(snakemake.input.test_tables)},
            paths_to_graded=dict(zip(snakemake.params.simulations, snakemake.input.graded, strict=True)),
            simulations=snakemake.params.simulations,
            human=snakemake.params.human,
            path_to_scores=snakemake.output.scores,
            path_to_diameter_scores=snakemake.output.by_diameter,
            path_to_dependence=snakemake.output.dependence,
            path_to_curve_methods=snakemake.output.curve_methods,
        )
