"""The MLflow runs that the results of the data sets of images stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from xiqa.files import read_json, read_table
from xiqa.tracking import Data, DatasetRecord, RunRecord

PICTURES_OF_IMAGES = ("examples.png", "severity.png", "saliency.png", "alignment.png", "ensemble_maps.png")
METHOD_TABLES = ("pointing_game", "roc_auc", "region_dice", "relevance", "fidelity")


def classification_runs(
    dataset: str, config: dict, models: Sequence[dict], tables: Sequence[str], figures: Sequence[str]
) -> list[RunRecord]:
    """Runs for a data set, its networks and ensembles, the shortcuts that they must beat, and its explained methods.

    Args:
        dataset: name of the data set.
        config: its configuration, without the folder of real data.
        models: architecture, weights, seed and folder of each network.
        tables: paths of its tables.
        figures: paths of its figures; those that show images of real patients stay out.
    """
    by_name = {Path(path).stem: Path(path) for path in tables}
    scores = read_table(by_name["scores"]).astype({"seed": str})
    data: Data = "simulated" if scores["data"].iloc[0] == "simulated" else "recorded"
    kept = [Path(path) for path in figures if data == "simulated" or Path(path).name not in PICTURES_OF_IMAGES]
    runs = [
        RunRecord(
            key=f"datasets/{dataset}",
            name=f"tables and figures ({dataset})",
            question="classifiers",
            params=config | {"dataset": dataset},
            artifacts={"tables": list(by_name.values()), "figures": [p for p in kept if p.parent.name == "figures"]},
            data=data,
        )
    ]
    without_weights = scores["architecture"].str.startswith("shortcut") | (
        scores["seed"].eq("ensemble") | scores["architecture"].str.endswith(", ensemble")
    )
    for (name, weights, seed), own in scores[without_weights].groupby(["architecture", "weights", "seed"], sort=False):
        which = seed if seed == "ensemble" else f"seed {seed}"
        runs.append(
            RunRecord(
                key=f"datasets/{dataset}/{name}/{'' if weights == 'trained' else f'{weights}/'}seed-{seed}",
                name=f"{name} ({dataset}, {which})"
                if weights == "trained"
                else f"{name} ({dataset}, {weights}, {which})",
                question="classifiers",
                params={"dataset": dataset, "architecture": name, "weights": weights, "seed": seed},
                metrics=_metrics(own),
                data=data,
            )
        )
    for model in models:
        folder, trained = Path(model["folder"]), model["weights"] == "trained"
        own = (scores["architecture"] == model["architecture"]) & (scores["weights"] == model["weights"])
        described = read_json(folder / "model.json")
        history = pd.read_csv(folder / "history.csv") if trained else None
        runs.append(
            RunRecord(
                key=f"datasets/{dataset}/{model['architecture']}/{model['weights']}/seed-{model['seed']}",
                name=f"{model['architecture']} ({dataset}, {model['weights']}, seed {model['seed']})",
                question="classifiers",
                params=described | {"dataset": dataset, "weights": model["weights"]},
                metrics=_metrics(scores[own & (scores["seed"] == str(model["seed"]))]),
                history=history,
                artifacts={
                    "model": [folder / "model.json", *([folder / "history.csv"] if trained else [])],
                    "figures": [p for p in kept if trained and p.parent.name == model["architecture"]],
                },
                datasets=[DatasetRecord(f"{dataset}_training", described["training_data"], "xiqa", "training", data)]
                if trained
                else [],
                tags={"architecture": model["architecture"], "weights": model["weights"]},
                data=data,
            )
        )
    return runs + _method_runs(dataset, by_name, data)


def _method_runs(dataset: str, tables: dict[str, Path], data: Data) -> list[RunRecord]:
    """One run for each saliency method and state of a network: sort them by a score to rank the methods."""
    if not set(METHOD_TABLES) <= set(tables):
        return []
    parts = []
    for name in METHOD_TABLES:
        rows = read_table(tables[name]).rename(columns={"accuracy": "mean"})
        if "smoothing" in rows:
            rows = rows.assign(
                metric=rows["smoothing"].map({"none": "pointing_game", "gaussian": "pointing_game_smooth"})
            )
        parts.append(rows)
    rows = pd.concat(parts, ignore_index=True)
    rows["name"] = rows["metric"] + rows["form"].map({"absolute": "", "signed": "_signed"})
    if "scoring" in rows:
        published = rows["scoring"] == "published"
        rows["name"] += rows["truth"].map({"box": "_box"}).fillna("").mask(published, "_published")
    runs = []
    for (architecture, weights, method), own in rows.groupby(["architecture", "weights", "method"], sort=False):
        names = {"architecture": architecture, "weights": weights, "method": method}
        runs.append(
            RunRecord(
                key=f"datasets/{dataset}/{architecture}/{weights}/{method}",
                name=f"{method} ({dataset}, {architecture}, {weights})",
                question="methods",
                params=names | {"dataset": dataset},
                metrics=dict(zip(own["name"], own["mean"], strict=True)),
                tags=names,
                data=data,
            )
        )
    return runs


def comparison_run(paths: Sequence[str], data: Data) -> RunRecord:
    """One run for the comparison of the saliency methods over all data sets: its tables, its page and its figure."""
    by_suffix = {"tables": [".csv"], "figures": [".png"], "findings": [".md"]}
    artifacts = {
        folder: [Path(path) for path in paths if Path(path).suffix in suffixes]
        for folder, suffixes in by_suffix.items()
    }
    return RunRecord("methods", "saliency methods compared", "methods", artifacts=artifacts, data=data)


def _metrics(scores: pd.DataFrame) -> dict[str, float]:
    """Scores over all classes, by name; of a regression with several targets each has its own names."""
    if "target" in scores:
        several = scores["target"].nunique() > 1
        names = scores["target"] + "_" + scores["metric"] if several else scores["metric"]
        return dict(zip(names, scores["value"], strict=True))
    scores = scores[scores["class_name"].isna() | (scores["class_name"] == "")]
    return dict(zip(scores["metric"], scores["value"], strict=True))
