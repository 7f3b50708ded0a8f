"""The MLflow runs that the results of the CDMAM chain stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from xiqa.files import read_json, read_table
from xiqa.tracking import Data, DatasetRecord, ModelRecord, RunRecord


def cdmam_runs(
    study: dict,
    folders_of_members: Sequence[Path],
    tables: Sequence[str],
    figures: Sequence[str],
    validity: Sequence[str],
    data: Data,
) -> list[RunRecord]:
    """One run for the study, and below it one for each member, the predictions and each explanation method.

    Args:
        study: name, config (parameters), log_model, methods (method -> its options).
        folders_of_members: folders of the ensemble's members.
        tables: paths of the result tables.
        figures: paths of the figures.
        validity: paths of the tables that say which explanations are valid.
        data: what the results rest on.
    """
    by_name = {Path(path).stem: path for path in tables}
    scores = read_table(by_name["prediction_scores"])
    models = [read_json(folder / "model.json") for folder in folders_of_members]
    training = DatasetRecord("cdmam_training", models[0]["training_data"], "xiqa", "training", data)
    runs = [
        RunRecord(
            key="study",
            name=f"CDMAM study {study['name']}",
            params=study["config"],
            metrics=group_metrics(scores),
            artifacts={
                "tables": [Path(p) for p in tables if "upsampling" not in p],
                "figures": [Path(p) for p in figures],
            },
            datasets=[training],
        )
    ]
    for folder, model in zip(folders_of_members, models, strict=True):
        history = pd.read_csv(folder / "history.csv")
        runs.append(
            RunRecord(
                key=f"models/{folder.name}",
                name=f"train {folder.name}",
                parent="study",
                params={"network": model["network"], "training": model["training"], "seed": model["seed"]},
                metrics={"final_rmse_um": history["rmse_um"].iloc[-1]},
                history=history,
                artifacts={"model": [folder / "history.csv", folder / "model.json"]},
                datasets=[training],
            )
        )
    runs.append(
        RunRecord(
            key="predictions",
            name="predict with the ensemble",
            parent="study",
            metrics=group_metrics(scores),
            artifacts={"tables": [Path(by_name[name]) for name in ("predictions", "prediction_scores", "cdc")]},
            model=ModelRecord(folders_of_members, models[0]["size"]) if study["log_model"] else None,
        )
    )
    flags = pd.concat(map(read_table, validity))
    modified, shares = read_table(by_name["modified_image_summary"]), read_table(by_name["structure_share_summary"])
    for method, rows in flags.groupby("method", sort=True):
        metrics = {"explained_images": len(rows), "valid_images": int(rows["valid"].sum())}
        for row in modified[modified["method"] == method].itertuples():
            metrics[f"modified_{row.form}_lowered_share"] = row.lowered_share
            metrics[f"modified_{row.form}_median_change_um"] = row.median_change_um
        for row in shares[(shares["method"] == method) & (shares["group"] == "all")].itertuples():
            name = row.structure if pd.isna(row.diameter_mm) else f"{row.structure}_{row.diameter_mm:g}_mm"
            metrics[f"share_abs_{name}"] = row.share_abs
        runs.append(
            RunRecord(
                key=f"explanations/{method}",
                name=f"explain with {method}",
                parent="study",
                params=study["methods"].get(method, {}),
                metrics=metrics,
                artifacts={"figures": [Path(path) for path in figures if f"/upsampled/{method}_" in path]},
                tags={"method": method},
            )
        )
    return runs


def group_metrics(scores: pd.DataFrame) -> dict[str, float]:
    """The scores of each test group, as metric names that MLflow takes."""
    columns = ["rmse_midpoint_um", "rmse_train_mean_um", "rmse_shortcut_um", "relative_error", "coverage_95"]
    columns += ["coverage_95_calibrated"]
    return {f"{column}_{row['group']}": row[column] for _, row in scores.iterrows() for column in columns}
