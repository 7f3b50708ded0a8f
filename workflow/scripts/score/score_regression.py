"""Score the networks of a regression, alone and as an ensemble, beside the shortcuts that they must beat."""

import pandas as pd

from xiqa.datasets.base import targets_of
from xiqa.files import read_array, read_table, write_table
from xiqa.logs import log_to
from xiqa.metrics import regression
from xiqa.metrics.shortcut_classification import shortcut_features
from xiqa.models.task import ENSEMBLE, combined


def score(
    models: list[dict],
    paths_to_predictions: list[str],
    path_to_split: str,
    path_to_images: str,
    path_to_table: str,
    paths: dict[str, str],
) -> None:
    """Write the scores of every network and shortcut, networks against shortcuts, and the ensembles' predictions."""
    table = read_table(path_to_table)
    divided = table.assign(part=read_table(path_to_split)["part"].to_numpy())
    used = (divided["part"] != "unused").to_numpy()
    features = shortcut_features(read_array(path_to_images), table.dropna(axis=1, how="all"))[used]
    scored = [(model, read_table(path)) for model, path in zip(models, paths_to_predictions, strict=True)]
    names = list(dict.fromkeys((model["architecture"], model["weights"]) for model in models))
    ensembles = []
    for architecture, weights in names:
        members = [p for model, p in scored if (model["architecture"], model["weights"]) == (architecture, weights)]
        known = {"architecture": architecture, "weights": weights, "seed": ENSEMBLE}
        ensembles.append((known, combined(members)))
    scores, comparisons = [], []
    own = {"data": table["data"].iloc[0], "grouping": table["grouping"].iloc[0]}
    for target in targets_of(table):
        shortcuts = {
            name: predictions[predictions["part"] == "test"]
            for name, predictions in regression.shortcut_predictions(features, divided[used], target).items()
        }
        for model, predictions in [*scored, *(ensembles if len(scored) > len(ensembles) else [])]:
            test = predictions[predictions["part"] == "test"]
            scores.append(regression.scores(test, target).assign(**model, **own))
            comparisons.append(regression.compare(test, shortcuts, target).assign(**model, **own))
        for name, predictions in shortcuts.items():
            known = {"architecture": f"shortcut: {name}", "weights": "trained", "seed": models[0]["seed"]}
            scores.append(regression.scores(predictions, target).assign(**known, **own))
    first = ["architecture", "weights", "seed", "target"]
    for name, parts in (("scores", scores), ("comparison", comparisons)):
        rows = pd.concat(parts, ignore_index=True)
        write_table(paths[name], rows[[*first, *rows.columns.drop(first)]])
    predicted = pd.concat([p.assign(**known) for known, p in ensembles], ignore_index=True)
    write_table(paths["predictions"], predicted.drop(columns=["label", "label_name"]))


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"score {snakemake.wildcards.dataset}"):
        score(
            models=snakemake.params.models,
            paths_to_predictions=list(snakemake.input.predictions),
            path_to_split=snakemake.input.split,
            path_to_images=snakemake.input.images,
            path_to_table=snakemake.input.table,
            paths=dict(snakemake.output.items()),
        )
