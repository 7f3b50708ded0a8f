"""Score all classifiers of one data set, and beside them the shortcuts that they must beat."""

import pandas as pd

from xiqa.datasets.base import classes_of
from xiqa.files import read_array, read_table, write_table
from xiqa.logs import Progress, log_to
from xiqa.metrics import classification
from xiqa.metrics.shortcut_classification import compare, shortcut_features, shortcut_predictions
from xiqa.models.task import ENSEMBLE, combined


def score(
    models: list[dict],
    paths_to_predictions: list[str],
    paths_to_splits: dict[int, str],
    path_to_images: str,
    path_to_table: str,
    bright_above: float | None,
    one_split: bool,
    paths: dict[str, str],
    progress: Progress,
) -> None:
    """Write one long table per kind of score; each row says which network, weights and seed it is of.

    The seeds of one split are members of an ensemble, which is scored as well.
    """
    images, table = read_array(path_to_images), read_table(path_to_table)
    classes = classes_of(table)
    features = shortcut_features(images, table.dropna(axis=1, how="all"))
    if bright_above is not None:
        features["bright_share"] = [(image > bright_above).mean() for image in images]
    shortcuts = {}
    for seed, path in paths_to_splits.items():
        divided = table.assign(part=read_table(path)["part"].to_numpy())
        used = (divided["part"] != "unused").to_numpy()
        shortcuts[seed] = shortcut_predictions(features[used], divided[used], n_classes=len(classes), seed=seed)
    scored = [(model, read_table(path)) for model, path in zip(models, paths_to_predictions, strict=True)]
    scored += ensembles(scored) if one_split else []
    scored += [
        ({"architecture": f"shortcut: {name}", "weights": "trained", "seed": seed}, predictions)
        for seed, kinds in shortcuts.items()
        for name, predictions in kinds.items()
    ]
    tables = {name: [] for name in paths}
    for number, (model, predictions) in enumerate(scored):
        test, seed = predictions[predictions["part"] == "test"], model["seed"]
        found = {
            "scores": classification.scores(test, classes, seed=seed),
            "confusion": classification.confusion(test, classes),
            "roc": classification.roc_curve_table(test, classes),
            "roc_band": classification.roc_band(test, classes, seed=seed),
            "calibration": classification.calibration_bins(test, classes),
        }
        if (predictions["part"] == "severity").any():
            dose_response = predictions[predictions["part"] == "severity"]
            found["auc_by_severity"] = classification.auc_by_severity(dose_response, classes, seed=seed)
        if not model["architecture"].startswith("shortcut"):
            same = {name: p[p["part"] == "test"] for name, p in shortcuts[seed].items()}
            found["comparison"] = compare(test, same, classes, seed=seed)
        for name, rows in found.items():
            own = {"data": table["data"].iloc[0], "grouping": table["grouping"].iloc[0]}
            tables[name].append(rows.assign(**model, **own))
        progress(number + 1, len(scored), "classifiers scored")
    for name, parts in tables.items():
        none = pd.DataFrame(columns=["architecture", "weights", "seed", "severity", "value"])
        rows = pd.concat(parts, ignore_index=True) if parts else none
        first = ["architecture", "weights", "seed"]
        write_table(paths[name], rows[[*first, *rows.columns.drop(first)]])


def ensembles(scored: list[tuple[dict, pd.DataFrame]]) -> list[tuple[dict, pd.DataFrame]]:
    """The ensemble of each network and state from the predictions of its members, under the first member's seed."""
    members: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for model, predictions in scored:
        members.setdefault((model["architecture"], model["weights"]), []).append(predictions)
    return [
        ({"architecture": f"{name}, {ENSEMBLE}", "weights": weights, "seed": scored[0][0]["seed"]}, combined(parts))
        for (name, weights), parts in members.items()
    ]


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"score {snakemake.wildcards.dataset}") as progress:
        score(
            models=snakemake.params.models,
            paths_to_predictions=list(snakemake.input.predictions),
            paths_to_splits=dict(zip(snakemake.params.seeds, snakemake.input.splits, strict=True)),
            path_to_images=snakemake.input.images,
            path_to_table=snakemake.input.table,
            bright_above=snakemake.params.bright_above,
            one_split=snakemake.params.members > 1,
            paths=dict(snakemake.output.items()),
            progress=progress,
        )
