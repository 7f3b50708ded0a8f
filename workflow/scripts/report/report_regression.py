"""Draw what a regression predicts and where its maps lie, and say in sentences what that shows."""

from pathlib import Path

import numpy as np
import pandas as pd

from xiqa.datasets.base import mask_of
from xiqa.figures.attributions import plot_attributions
from xiqa.figures.classification import plot_training
from xiqa.figures.regression import plot_against_shortcuts, plot_predictions, plot_shares
from xiqa.files import PackedMasks, read_array, read_json, read_table, write_figure
from xiqa.logs import log_to
from xiqa.metrics.regression_findings import describe_regression
from xiqa.names import method_name
from xiqa.report.pages import write_findings


def report(
    dataset: str,
    paths: dict[str, str],
    folders_of_networks: dict[str, str],
    path_to_shares: str | None,
    paths_to_maps: dict[str, str],
    paths_to_results: dict[str, str],
) -> None:
    """Write the figures of the first architecture, and the page.

    `paths_to_maps` are those of the ensemble's methods, mean and spread, of the images that are costly to explain.
    """
    tables = {name: read_table(paths[name]) for name in ("scores", "comparison", "predictions", "table")}
    model = read_json(Path(next(iter(folders_of_networks.values())), "model.json"))
    units, data = dict(zip(model["targets"], model["units"], strict=True)), tables["table"]["data"].iloc[0]
    predictions = tables["predictions"]
    shown = predictions[(predictions["architecture"] == model["architecture"]) & (predictions["weights"] == "trained")]
    figures = {
        "predictions": plot_predictions(shown[shown["part"] == "test"], units, data),
        "shortcuts": plot_against_shortcuts(tables["scores"], units, data),
        "history": plot_training(
            {name: read_table(Path(folder, "history.csv")) for name, folder in folders_of_networks.items()},
            {name: read_json(Path(folder, "model.json"))["best_epoch"] for name, folder in folders_of_networks.items()},
            data,
        ),
    }
    shares = read_table(path_to_shares) if path_to_shares else None
    if shares is not None:
        figures["structure_share"] = plot_shares(shares, mask_of(tables["table"]), data)
    if paths_to_maps:
        figures["ensemble_maps"] = _ensemble_maps(paths, tables["table"], model["targets"], paths_to_maps, data)
    for name, figure in figures.items():
        write_figure(paths_to_results[name], figure)
    findings = describe_regression(tables["scores"], tables["comparison"], shares, units)
    write_findings(
        f"What the regression shows: {dataset} ({data} images)", findings, paths_to_results["page"],
        paths_to_results["findings"], picture=paths_to_results["predictions"],
    )  # fmt: skip


def _ensemble_maps(paths: dict, table: pd.DataFrame, targets: list[str], paths_to_maps: dict[str, str], data: str):
    """Images of low, middle and high mean target with a mask: the mean of the members' maps, and its spread."""
    masks, pixels = PackedMasks(paths["masks"]), read_array(paths["images"])
    chosen = read_table(paths["chosen"]).query("costly").reset_index(drop=True)
    holds = [index for index, row in enumerate(chosen["row"]) if masks[row].any()]
    holds = holds or list(chosen.index)
    order = sorted(holds, key=lambda index: table[targets].iloc[chosen["row"][index]].mean())
    picked = [order[round(share * (len(order) - 1))] for share in (0.1, 0.5, 1.0)]
    rows = chosen["row"].to_numpy()[picked]
    titles = [
        "\n".join(f"{name.removeprefix('target_')} {table[name].iloc[row]:.2f}" for name in targets) for row in rows
    ]
    # The method by its printed name, with what follows the comma.
    maps = {
        ", ".join([method_name(name.split(", ")[0]), *name.split(", ")[1:]]): np.asarray(read_array(path)[picked])
        for name, path in paths_to_maps.items()
    }
    return plot_attributions(pixels[rows], np.stack([masks[row] for row in rows]), maps, titles, data)


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"report {snakemake.params.dataset}"):
        report(
            dataset=snakemake.params.dataset,
            paths={name: path for name, path in snakemake.input.items() if isinstance(path, str)},
            folders_of_networks=snakemake.params.folders,
            path_to_shares=snakemake.input.shares or None,
            paths_to_maps=snakemake.params.maps,
            paths_to_results=dict(snakemake.output.items()),
        )
