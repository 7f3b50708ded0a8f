"""The MLflow runs that the results of the CDMAM chain stand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from xiqa.files import read_json, read_table
from xiqa.tracking import Data, DatasetRecord, ModelRecord, RunRecord

GROUP_METRICS = {
    "rmse_um": "rmse_midpoint_um",
    "rmse_train_mean_um": "rmse_train_mean_um",
    "rmse_shortcut_um": "rmse_shortcut_um",
    "relative_error": "relative_error",
    "coverage_95": "coverage_95",
    "coverage_95_calibrated": "coverage_95_calibrated",
}
"""Short name of a score in MLflow -> its column in the table of prediction scores."""


def cdmam_runs(
    study: dict,
    folders_of_members: Sequence[Path],
    tables: Sequence[str],
    figures: Sequence[str],
    validity: Sequence[str],
    data: Data,
) -> list[RunRecord]:
    """Runs for the study, its measured curves, test groups, members, ensemble and explanation methods.

    Args:
        study: name, config (parameters), log_model, methods (method -> its options).
        folders_of_members: folders of the ensemble's members.
        tables: paths of the result tables.
        figures: paths of the figures.
        validity: paths of the tables that say which explanations are valid.
        data: what the results rest on.
    """
    by_name = {Path(path).stem: path for path in tables}
    models = [read_json(folder / "model.json") for folder in folders_of_members]
    training = DatasetRecord("cdmam_training", models[0]["training_data"], "xiqa", "training", data)
    return [
        RunRecord(
            key="study",
            name=f"tables and figures (study {study['name']})",
            question="curves",
            params={"kind": "study", **study["config"]},
            artifacts={
                "tables": [Path(p) for p in tables if "upsampling" not in p],
                "figures": [Path(p) for p in figures],
            },
            datasets=[training],
        ),
        *_curve_runs(read_table(by_name["cdc"])),
        *_group_runs(read_table(by_name["prediction_scores"])),
        *_member_runs(folders_of_members, models, training),
        RunRecord(
            key="predictions",
            name=f"ensemble of {len(models)}",
            question="curves",
            params={"kind": "ensemble", "members": len(models)},
            artifacts={"tables": [Path(by_name[name]) for name in ("predictions", "prediction_scores", "cdc")]},
            model=ModelRecord(folders_of_members, models[0]["size"]) if study["log_model"] else None,
        ),
        *_method_runs(
            study, pd.concat(map(read_table, validity)), read_table(by_name["modified_image_summary"]),
            read_table(by_name["structure_share_summary"]), figures,
        ),
    ]  # fmt: skip


def _curve_runs(curves: pd.DataFrame) -> Iterator[RunRecord]:
    for setting, curve in curves.groupby("setting", sort=False):
        cdc_um = curve.set_index("diameter_mm")["cdc_um"]
        yield RunRecord(
            key=f"curves/{setting}",
            name=f"curve {setting}",
            question="curves",
            params={"kind": "measured curve", "setting": setting},
            metrics={f"cdc_um_{diameter:.2f}_mm": cdc_um.get(diameter) for diameter in (1.0, 0.25, 0.1)},
        )


def _group_runs(scores: pd.DataFrame) -> Iterator[RunRecord]:
    for group in scores.to_dict("records"):
        yield RunRecord(
            key=f"predictions/{group['group']}",
            name=f"predict {group['group']}",
            question="curves",
            params={"kind": "test group", "group": group["group"], "images": group["n"]},
            metrics={name: group[column] for name, column in GROUP_METRICS.items()},
        )


def _member_runs(folders: Sequence[Path], models: Sequence[dict], training: DatasetRecord) -> Iterator[RunRecord]:
    for folder, model in zip(folders, models, strict=True):
        history = pd.read_csv(folder / "history.csv")
        yield RunRecord(
            key=f"models/{folder.name}",
            name=f"train {folder.name}",
            question="curves",
            params={"kind": "member"} | {name: model[name] for name in ("network", "training", "seed")},
            metrics={"final_rmse_um": history["rmse_um"].iloc[-1]},
            # `rmse_um` is the error in a test group: a column of its own, whose rows can be compared.
            history=history.rename(columns={"rmse_um": "training_rmse_um"}),
            artifacts={"model": [folder / "history.csv", folder / "model.json"]},
            datasets=[training],
        )


def _method_runs(
    study: dict, flags: pd.DataFrame, modified: pd.DataFrame, shares: pd.DataFrame, figures: Sequence[str]
) -> Iterator[RunRecord]:
    modified, shares = modified[modified["group"] == "all"], shares[shares["group"] == "all"]
    for method, rows in flags.groupby("method", sort=True):
        metrics = {"explained_images": len(rows), "valid_share": rows["valid"].mean()}
        for row in modified[modified["method"] == method].itertuples():
            form = "" if row.form == "published" else f"_{row.form}"
            metrics[f"lowered_share{form}"] = row.lowered_share
            metrics[f"median_change_um{form}"] = row.median_change_um
        for row in shares[shares["method"] == method].itertuples():
            name = row.structure if pd.isna(row.diameter_mm) else f"{row.structure}_{row.diameter_mm:g}_mm"
            metrics[f"share_abs_{name}"] = row.share_abs
        names = {"dataset": "cdmam", "architecture": "ensemble", "weights": "trained", "method": method}
        yield RunRecord(
            key=f"explanations/{method}",
            name=f"{method} (cdmam)",
            question="methods",
            params=names | {"options": study["methods"].get(method, {})},
            metrics=metrics,
            artifacts={"figures": [Path(path) for path in figures if f"/upsampled/{method}_" in path]},
            tags={"method": method},
        )
