"""Put what the networks of a data set are and how well they classify into one table."""

import os
from pathlib import Path

import pandas as pd

from xiqa.files import read_json, read_table, read_tensors, write_table
from xiqa.logs import log_to
from xiqa.metrics.maps.beside import with_published

METRICS = ("accuracy", "balanced_accuracy", "auc")


def tabulate(
    path_to_scores: str, paths_to_weights: list[str], networks: list[dict], study: str, path_to_table: str
) -> None:
    """Write one row per network: size, scores over all classes with their intervals, beside Brima 2023's table 3."""
    scores = read_table(path_to_scores)
    scores = scores[(scores["class_name"].fillna("") == "") & scores["metric"].isin(METRICS)]
    rows = []
    for path, network in zip(paths_to_weights, networks, strict=True):
        tensors = read_tensors(path)
        own = scores[(scores[list(network)] == pd.Series(network)).all(axis=1)]
        row = network | {
            "classes": len(read_json(Path(path).with_name("model.json"))["classes"]),
            "size_mb": os.path.getsize(path) / 1e6,
            "parameters": sum(tensor.numel() for name, tensor in tensors.items() if "running_" not in name),
            "weighted_layers": sum(tensor.ndim > 1 for tensor in tensors.values()),
        }
        for score in own.itertuples():
            row |= {
                score.metric: score.value,
                f"{score.metric}_low": score.ci_low,
                f"{score.metric}_high": score.ci_high,
            }
        rows.append(row | own.iloc[0][["n_images", "n_patients", "grouping", "data"]].to_dict())
    write_table(path_to_table, with_published({"classifier": pd.DataFrame(rows)}, study)["classifier"])


if "snakemake" in globals():
    with log_to(snakemake.log[0], f"tabulate classifiers of {snakemake.wildcards.dataset}"):
        tabulate(
            path_to_scores=snakemake.input.scores,
            paths_to_weights=list(snakemake.input.weights),
            networks=snakemake.params.networks,
            study=snakemake.params.study,
            path_to_table=snakemake.output.table,
        )
