"""Draw curves read out, training histories, predictions, coverage, and the shortcut (figure 2)."""

import pandas as pd

from xiqa.cdmam.limits import limit_curve
from xiqa.cdmam.phantom import CDC_DIAMETERS_MM
from xiqa.figures.cdc import plot_cdc
from xiqa.figures.prediction import (
    plot_coverage,
    plot_curve_methods,
    plot_error_against_uncertainty,
    plot_error_over_uncertainty,
    plot_predicted_curves,
    plot_shortcut,
)
from xiqa.figures.style import SHOWN_GROUPS, data_of
from xiqa.figures.training import plot_history
from xiqa.files import read_table, write_figure
from xiqa.logs import log_to
from xiqa.names import group_name


def draw_predictions(
    path_to_curves: str,
    paths_to_histories: list[str],
    path_to_predictions: str,
    path_to_scores: str,
    path_to_diameter_scores: str,
    path_to_curve_methods: str,
    groups: list[str],
    paths: dict[str, str],
) -> None:
    """Draw figure 2 of the paper and what it rests on."""
    curves, predictions, scores = (
        read_table(path_to_curves),
        read_table(path_to_predictions),
        read_table(path_to_scores),
    )
    data = data_of(predictions["data"])
    shown = {group_name(group): curves[curves["setting"] == group] for group in groups}
    write_figure(paths["cdc"], plot_cdc(shown, data=data))
    histories = {f"member {number}": pd.read_csv(path) for number, path in enumerate(paths_to_histories)}
    write_figure(paths["history"], plot_history(histories, data=data))
    first = predictions.drop_duplicates("group").set_index("group")["image"]
    titles = {first[group]: group_name(group) for group in SHOWN_GROUPS if group in first.index}
    limits = {name: (CDC_DIAMETERS_MM, limit_curve(name, CDC_DIAMETERS_MM)) for name in ("acceptable", "achievable")}
    write_figure(paths["curves"], plot_predicted_curves(predictions, titles, limits, data=data))
    write_figure(paths["errors"], plot_error_against_uncertainty(predictions, data=data))
    by_group = scores[scores["group"] != "scenario_1_3"]
    write_figure(paths["coverage"], plot_coverage(by_group, data=data))
    by_diameter = read_table(path_to_diameter_scores)
    write_figure(paths["calibration"], plot_error_over_uncertainty(by_diameter, data=data))
    write_figure(paths["shortcut"], plot_shortcut(scores, data=data))
    write_figure(paths["curve_methods"], plot_curve_methods(read_table(path_to_curve_methods)))


if "snakemake" in globals():
    with log_to(snakemake.log[0], "draw predictions"):
        draw_predictions(
            path_to_curves=snakemake.input.curves,
            paths_to_histories=list(snakemake.input.histories),
            path_to_predictions=snakemake.input.predictions,
            path_to_scores=snakemake.input.scores,
            path_to_diameter_scores=snakemake.input.by_diameter,
            path_to_curve_methods=snakemake.input.curve_methods,
            groups=snakemake.params.groups,
            paths=dict(snakemake.output.items()),
        )
