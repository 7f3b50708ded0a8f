"""The findings of a study in sentences, each computed from its tables: what a reader must know first comes first."""

from __future__ import annotations

import pandas as pd

POOLED = "scenario_1_3"


def describe_findings(
    curves: pd.DataFrame, scores: pd.DataFrame, modified: pd.DataFrame, shares: pd.DataFrame
) -> list[tuple[str, str]]:
    """Sentences with their numbers, whichever way they came out.

    Args:
        curves: cdc.csv.
        scores: prediction_scores.csv.
        modified: modified_image_summary.csv.
        shares: structure_share_summary.csv.

    Returns:
        (heading, sentence) pairs in the order of their weight.
    """
    return [
        ("Shortcut", _shortcut(scores)),
        ("Accuracy", _accuracy(scores)),
        ("Uncertainty", _coverage(scores)),
        ("Censoring", _censoring(curves, list(scores["group"]))),
        ("Modified image", _modified(modified)),
        ("Structures", _structures(shares)),
    ]


def _shortcut(scores: pd.DataFrame) -> str:
    row = _pooled(scores)
    ensemble, shortcut = row["rmse_midpoint_um"], row["rmse_shortcut_um"]
    where = "scenarios #1-#3 together" if row["group"] == POOLED else f"group {row['group']}"
    if shortcut <= ensemble:
        verdict = (
            "A regression on nothing but the background's mean and standard deviation predicts the curve as well as "
            "the ensemble or better: on these images the ensemble's accuracy is no evidence that it looks at discs."
        )
    else:
        verdict = (
            f"The ensemble's error is {ensemble / shortcut:.2f} times that of a regression on nothing but the "
            "background's mean and standard deviation."
        )
    return f"{verdict} RMSE of the midpoint, {where}: shortcut {shortcut:.4f} µm, ensemble {ensemble:.4f} µm."


def _accuracy(scores: pd.DataFrame) -> str:
    row = _pooled(scores)
    ratio = row["rmse_midpoint_um"] / row["rmse_train_mean_um"]
    return (
        f"The ensemble's RMSE of the midpoint is {ratio:.2f} times that of predicting the training mean "
        f"({row['rmse_midpoint_um']:.4f} µm, 95 % interval {row['rmse_midpoint_low_um']:.4f} to "
        f"{row['rmse_midpoint_high_um']:.4f} µm, against {row['rmse_train_mean_um']:.4f} µm; {int(row['n'])} images)."
    )


def _coverage(scores: pd.DataFrame) -> str:
    parts = [
        f"{row.group} {100 * row.coverage_95:.0f} %"
        for row in scores[scores["group"] != POOLED].itertuples()
        if pd.notna(row.coverage_95)
    ]
    return "Points within ± 1.96 total standard uncertainty (95 % would be right): " + ", ".join(parts) + "."


def _censoring(curves: pd.DataFrame, groups: list[str]) -> str:
    counts = curves[curves["setting"].isin(groups)].groupby("setting", sort=False)["censored"].sum()
    parts = [f"{group} {int(count)} of 12" for group, count in counts.items()]
    return (
        "Thresholds outside the phantom's range of 0.03-2 µm, clamped and left out of errors: " + ", ".join(parts) + "."
    )


def _modified(modified: pd.DataFrame) -> str:
    rows = modified[modified["group"] == "all"]
    parts = [
        f"{row.method}, {row.form.replace('_', '-')}: lowered in {row.lowered} of {row.n} images (Wilson interval "
        f"{100 * row.lowered_share_low:.0f}-{100 * row.lowered_share_high:.0f} %), median change "
        f"{row.median_change_um:+.3g} µm"
        for row in rows.itertuples()
    ]
    return "Midpoint after the upsampled map was added to its image: " + "; ".join(parts) + "."


def _structures(shares: pd.DataFrame) -> str:
    first = shares["method"].iloc[0]
    rows = shares[(shares["group"] == "all") & (shares["method"] == first)]
    parts = []
    for row in rows.itertuples():
        name = f"disc {row.diameter_mm:g} mm" if row.structure == "disc" else row.structure
        interval = (
            f" ({row.enrichment_low:.2f}-{row.enrichment_high:.2f})" if pd.notna(row.enrichment_low) else " (one image)"
        )
        parts.append(f"{name} {row.enrichment:.2f}{interval}")
    return f"Share of the {first} map over share of area (1: no more than by area): " + ", ".join(parts) + "."


def _pooled(scores: pd.DataFrame) -> pd.Series:
    """The pooled scenarios, or the first group of a study that has none of them."""
    pooled = scores[scores["group"] == POOLED]
    return (pooled if len(pooled) else scores).iloc[0]
