"""Scores of predicted contrast-detail curves: errors, coverage, error against uncertainty."""

from __future__ import annotations

import numpy as np
import pandas as pd

from xiqa.metrics.statistics import bootstrap_ci, root_mean

EXPANSION = 1.96
"""Standard uncertainties on either side of a prediction: 95 % of a normal distribution."""

POOLED = "scenario_1_3"
POOLED_GROUPS = ("scenario_1", "scenario_2", "scenario_3")


def predictions_table(
    images: list[str],
    groups: list[str],
    diameters_mm: np.ndarray,
    truth_um: np.ndarray,
    predicted: dict[str, np.ndarray],
    censored: np.ndarray,
) -> pd.DataFrame:
    """The table predictions.csv: one row per image and diameter.

    Args:
        images: n names.
        groups: the test group of each image.
        diameters_mm: (12,).
        truth_um: (n, 12).
        predicted: (n, 12) arrays predicted_um, aleatoric_um, epistemic_um; others are ignored.
        censored: (n, 12) bool, the truth lies outside the phantom's range and is not measured.

    Returns:
        image, group, diameter_mm, truth_um, predicted_um, aleatoric_um, epistemic_um, censored.
    """
    number = len(diameters_mm)
    return pd.DataFrame(
        {
            "image": np.repeat(np.asarray(images, object), number),
            "group": np.repeat(np.asarray(groups, object), number),
            "diameter_mm": np.tile(diameters_mm, len(images)),
            "truth_um": truth_um.ravel(),
            **{name: predicted[name].ravel() for name in ("predicted_um", "aleatoric_um", "epistemic_um")},
            "censored": censored.ravel(),
        }
    )


def prediction_scores(
    predictions: pd.DataFrame, train_mean_um: np.ndarray, *, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """The table prediction_scores.csv: one row per group, and one that pools scenarios 1-3.

    Args:
        predictions: columns image, group, diameter_mm, truth_um, predicted_um, aleatoric_um, epistemic_um, censored
            (bool) and, for the shortcut's error, shortcut_um (NaN in rmse_shortcut_um without it); every image has
            the same diameters.
        train_mean_um: (12,) mean of the training labels, in the order of falling diameter.
        draws: bootstrap draws over images.
        seed: seed of the bootstrap.

    Returns:
        group; n (images); rmse_midpoint_um, over images, of the midpoint (plain mean of the 12 thicknesses, flagged
        ones too); rmse_train_mean_um and rmse_shortcut_um, the same for the mean training curve and the shortcut;
        relative_error, mean of |predicted - truth| / truth, and coverage_95, share of |predicted - truth| <= 1.96
        total standard uncertainties, both over the points that are not flagged as censored (NaN if there are none).
        Then: rmse_midpoint_unflagged_um, the midpoint of the unflagged points of each image; censored_share;
        95 % bootstrap intervals over images: rmse_midpoint_low_um, rmse_midpoint_high_um, coverage_95_low,
        coverage_95_high. They hold for the given truth: its own error is not in them.

    Raises:
        ValueError: an image lacks diameters, or `train_mean_um` has another number of them.
    """
    points = _points(predictions, train_mean_um)
    rows = [_score(group, part, draws, seed) for group, part in points.groupby("group", sort=False)]
    pooled = points[points["group"].isin(POOLED_GROUPS)]
    if len(pooled):
        rows.append(_score(POOLED, pooled, draws, seed))
    return pd.DataFrame(rows)


def diameter_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Errors per group and diameter: n (images), censored, rmse_um, relative_error, coverage_95.

    A diameter whose truth is flagged as censored in all images of a group is not scored there (NaN).
    """
    points = _with_errors(predictions)
    rows = []
    for (group, diameter), part in points.groupby(["group", "diameter_mm"], sort=False):
        scored = part[~part["censored"]]
        rows.append(
            {
                "group": group,
                "diameter_mm": diameter,
                "n": len(part),
                "censored": len(part) - len(scored),
                "rmse_um": root_mean(scored["error_um"] ** 2) if len(scored) else np.nan,
                "relative_error": scored["relative_error"].mean(),
                "coverage_95": scored["covered"].mean() if len(scored) else np.nan,
            }
        )
    return pd.DataFrame(rows)


def error_against_uncertainty(predictions: pd.DataFrame, bins: int = 8) -> pd.DataFrame:
    """Does a larger stated uncertainty mean a larger error? The numbers behind figure 2(b) of paper 000.

    Args:
        predictions: as for `prediction_scores`; points flagged as censored are left out.
        bins: classes of equal number of points, by rising total uncertainty, in each group.

    Returns:
        group, bin (1 = least uncertain), n (points), total_um (mean total standard uncertainty), rmse_um,
        rank_correlation (Spearman, of |error| and uncertainty over all points of the group, the same in its rows).
    """
    points = _with_errors(predictions)
    points = points[~points["censored"]]
    rows = []
    for group, part in points.groupby("group", sort=False):
        ordered = part.sort_values("total_um", kind="stable")
        correlation = part["error_um"].abs().corr(part["total_um"], method="spearman")
        for number, chosen in enumerate(np.array_split(np.arange(len(ordered)), min(bins, len(ordered)))):
            chosen = ordered.iloc[chosen]
            rows.append(
                {
                    "group": group,
                    "bin": number + 1,
                    "n": len(chosen),
                    "total_um": chosen["total_um"].mean(),
                    "rmse_um": root_mean(chosen["error_um"] ** 2),
                    "rank_correlation": correlation,
                }
            )
    return pd.DataFrame(rows)


def _with_errors(predictions: pd.DataFrame) -> pd.DataFrame:
    error = predictions["predicted_um"] - predictions["truth_um"]
    total = np.hypot(predictions["aleatoric_um"], predictions["epistemic_um"])
    return predictions.assign(
        censored=predictions["censored"].astype(bool),
        error_um=error,
        relative_error=error.abs() / predictions["truth_um"],
        total_um=total,
        covered=error.abs() <= EXPANSION * total,
    )


def _points(predictions: pd.DataFrame, train_mean_um: np.ndarray) -> pd.DataFrame:
    points = _with_errors(predictions).sort_values("diameter_mm", ascending=False, kind="stable")
    diameters = points["diameter_mm"].unique()
    counts = points.groupby(["group", "image"], sort=False)["diameter_mm"].agg(["size", "nunique"])
    if (counts != len(diameters)).any(axis=None):
        raise ValueError(f"predictions: found images with other than the {len(diameters)} diameters, once each")
    if np.shape(train_mean_um) != (len(diameters),):
        raise ValueError(f"train_mean_um: found shape {np.shape(train_mean_um)}, expected ({len(diameters)},)")
    means = dict(zip(diameters, np.asarray(train_mean_um, float), strict=True))
    return points.assign(train_mean_um=points["diameter_mm"].map(means)).sort_index()


def _score(group: str, points: pd.DataFrame, draws: int, seed: int) -> dict:
    by_image = ["group", "image"]
    scored = points[~points["censored"]]
    midpoints = points.groupby(by_image, sort=False).mean(numeric_only=True)
    unflagged = scored.groupby(by_image, sort=False)["error_um"].mean()
    squares = (midpoints["error_um"] ** 2).to_numpy()
    rmse_low, rmse_high = bootstrap_ci(squares, statistic=root_mean, draws=draws, seed=seed)
    # Every image of a group has the same flags, so the mean over images of their coverage is that over points.
    covered = scored.groupby(by_image, sort=False)["covered"].mean().to_numpy(float)
    coverage_low, coverage_high = bootstrap_ci(covered, draws=draws, seed=seed)

    def rmse(column: str) -> float:
        if column not in midpoints:
            return float("nan")
        return float(root_mean((midpoints[column] - midpoints["truth_um"]).to_numpy() ** 2))

    return {
        "group": group,
        "n": len(midpoints),
        "rmse_midpoint_um": rmse("predicted_um"),
        "rmse_train_mean_um": rmse("train_mean_um"),
        "rmse_shortcut_um": rmse("shortcut_um"),
        "relative_error": scored["relative_error"].mean(),
        "coverage_95": scored["covered"].mean() if len(scored) else float("nan"),
        "rmse_midpoint_unflagged_um": float(root_mean(unflagged.to_numpy() ** 2)) if len(unflagged) else float("nan"),
        "censored_share": float(points["censored"].mean()),
        "rmse_midpoint_low_um": rmse_low,
        "rmse_midpoint_high_um": rmse_high,
        "coverage_95_low": coverage_low,
        "coverage_95_high": coverage_high,
    }
