"""Scores of predicted contrast-detail curves: errors, coverage, and what the stated uncertainty depends on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from xiqa.metrics.statistics import interval, proportion_interval, rmse_interval, root_mean

EXPANSION = 1.96
"""Standard uncertainties on either side of a prediction: 95 % of a normal distribution."""

POOLED = "scenario_1_3"
POOLED_GROUPS = ("scenario_1", "scenario_2", "scenario_3")

STOOD_FOR = (*POOLED_GROUPS, "scenario_4")
"""Test groups of the system and range that validation settings stand for; the others are of another kind."""


def predictions_table(
    images: list[str],
    groups: list[str],
    diameters_mm: np.ndarray,
    truth_um: np.ndarray,
    predicted: dict[str, np.ndarray],
    censored: np.ndarray,
    scale: float | None = None,
) -> pd.DataFrame:
    """The table predictions.csv: one row per image and diameter.

    Args:
        images: n names.
        groups: the test group of each image.
        diameters_mm: (12,).
        truth_um: (n, 12).
        predicted: (n, 12) arrays predicted_um, aleatoric_um, epistemic_um; others are ignored.
        censored: (n, 12) bool, the truth lies outside the phantom's range and is not measured.
        scale: factor of the calibration (`xiqa.metrics.calibration`), NaN where nothing could be calibrated; None adds
            no column.

    Returns:
        image, group, diameter_mm, truth_um, predicted_um, aleatoric_um, epistemic_um, censored and calibrated_um, the
        calibrated total standard uncertainty: scale · √(aleatoric² + epistemic²).
    """
    number = len(diameters_mm)
    rows = pd.DataFrame(
        {
            "image": np.repeat(np.asarray(images, object), number),
            "group": np.repeat(np.asarray(groups, object), number),
            "diameter_mm": np.tile(diameters_mm, len(images)),
            "truth_um": truth_um.ravel(),
            **{name: predicted[name].ravel() for name in ("predicted_um", "aleatoric_um", "epistemic_um")},
            "censored": censored.ravel(),
        }
    )
    return rows if scale is None else rows.assign(calibrated_um=scale * total_uncertainty(rows))


def total_uncertainty(predictions: pd.DataFrame) -> pd.Series:
    """Total standard uncertainty in µm as predicted: the root of the sum of squares of aleatoric and epistemic."""
    return np.hypot(predictions["aleatoric_um"], predictions["epistemic_um"])


def prediction_scores(predictions: pd.DataFrame, train_mean_um: np.ndarray) -> pd.DataFrame:
    """The table prediction_scores.csv: one row per group, and one that pools scenarios 1-3.

    Args:
        predictions: columns image, group, diameter_mm, truth_um, predicted_um, aleatoric_um, epistemic_um, censored
            (bool) and, where there is one, calibrated_um and shortcut_um (NaN in their scores without); every image
            has the same diameters.
        train_mean_um: (12,) mean of the training labels, in the order of falling diameter.

    Returns:
        group; n (images); rmse_midpoint_um, over images, of the midpoint (plain mean of the 12 thicknesses, flagged
        ones too); rmse_train_mean_um and rmse_shortcut_um, the same for the mean training curve and the shortcut;
        relative_error, mean of |predicted - truth| / truth, and coverage_95, share of |predicted - truth| <= 1.96
        total standard uncertainties, both over the points that are not flagged as censored (NaN if there are none).
        Then: rmse_midpoint_unflagged_um, the midpoint of the unflagged points of each image; censored_share;
        coverage_95_calibrated, with the calibrated uncertainty; error_over_uncertainty (and _calibrated), the root
        mean square of error / uncertainty: 1 where the uncertainty is right; rmse_over_train_mean and
        rmse_over_shortcut. 95 % intervals over images (NaN: fewer than six): rmse_midpoint_low_um,
        rmse_midpoint_high_um, _low and _high of both coverages. They hold for the given truth: its own error is
        not in them. against_train_mean and against_shortcut: `better` or `worse` where the interval of the mean
        difference of squared midpoint errors over the same images leaves out 0, else `not told apart`.

    Raises:
        ValueError: an image lacks diameters, or `train_mean_um` has another number of them.
    """
    points = _points(predictions, train_mean_um)
    rows = [_score(group, part) for group, part in points.groupby("group", sort=False)]
    pooled = points[points["group"].isin(POOLED_GROUPS)]
    if len(pooled):
        rows.append(_score(POOLED, pooled))
    return pd.DataFrame(rows)


def diameter_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Errors and coverage per group and diameter.

    Returns:
        group, diameter_mm, n (images), censored (images), rmse_um, relative_error; coverage_95 and
        coverage_95_calibrated, each with its exact interval over images (_low, _high); error_over_uncertainty and
        error_over_uncertainty_calibrated, the root mean square of error / standard uncertainty. A diameter whose truth
        is flagged as censored in all images of a group is not scored there (NaN).
    """
    points = _with_errors(predictions)
    rows = []
    for (group, diameter), part in points.groupby(["group", "diameter_mm"], sort=False):
        scored = part[~part["censored"]]
        row = {
            "group": group,
            "diameter_mm": diameter,
            "n": len(part),
            "censored": len(part) - len(scored),
            "rmse_um": root_mean(scored["error_um"] ** 2) if len(scored) else np.nan,
            "relative_error": scored["relative_error"].mean(),
        }
        for end in ("", "_calibrated"):
            covered = scored[f"covered{end}"].dropna()
            ends = proportion_interval(int(covered.sum()), len(covered)) if len(covered) else (np.nan, np.nan)
            row |= dict(zip((f"coverage_95{end}_low", f"coverage_95{end}_high"), ends, strict=True))
            row |= {f"coverage_95{end}": covered.mean(), **_error_over_uncertainty(scored, end)}
        rows.append(row)
    return pd.DataFrame(rows)


def error_against_uncertainty(predictions: pd.DataFrame, bins: int = 8) -> pd.DataFrame:
    """Does a larger stated uncertainty mean a larger error? The numbers behind figure 2(b) of Amanova 2022.

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


def uncertainty_dependence(predictions: pd.DataFrame) -> pd.DataFrame:
    """What does the predicted uncertainty depend on: the diameter, or the image?

    The variance of the logarithm of the total standard uncertainty over all points is split into the part between
    diameters and the part within them, between images (one-way analysis of variance).

    Args:
        predictions: as for `prediction_scores`, of all groups together.

    Returns:
        One row per diameter, and first one for all (diameter_mm NaN): n (images); total_um, mean total standard
        uncertainty; image_variation, its coefficient of variation over images at one diameter (root mean square over
        diameters in the row of all); image_share, the part of the variance that lies between images (row of all);
        rank_correlation, Spearman's of |error| and uncertainty over the images at one diameter, points flagged as
        censored left out (mean over diameters in the row of all; NaN where no rank differs).
    """
    points = _with_errors(predictions)
    logs = np.log(points["total_um"])
    within = logs - logs.groupby(points["diameter_mm"]).transform("mean")
    rows = []
    for diameter, part in points.groupby("diameter_mm", sort=False):
        scored = part[~part["censored"]]
        varied = len(scored) > 1 and scored["total_um"].nunique() > 1 and scored["error_um"].abs().nunique() > 1
        rows.append(
            {
                "diameter_mm": diameter,
                "n": len(part),
                "total_um": part["total_um"].mean(),
                "image_variation": part["total_um"].std(ddof=0) / part["total_um"].mean(),
                "rank_correlation": (
                    scored["error_um"].abs().corr(scored["total_um"], method="spearman") if varied else np.nan
                ),
            }
        )
    table = pd.DataFrame(rows)
    spread = float(logs.var(ddof=0))
    everything = {
        "diameter_mm": np.nan,
        "n": points[["group", "image"]].drop_duplicates().shape[0],
        "total_um": points["total_um"].mean(),
        "image_variation": root_mean(table["image_variation"].to_numpy() ** 2),
        "image_share": float((within**2).mean()) / spread if spread > 0 else np.nan,
        "rank_correlation": table["rank_correlation"].mean(),
    }
    order = ["diameter_mm", "n", "total_um", "image_variation", "image_share", "rank_correlation"]
    return pd.concat([pd.DataFrame([everything]), table], ignore_index=True)[order]


def _with_errors(predictions: pd.DataFrame) -> pd.DataFrame:
    error = predictions["predicted_um"] - predictions["truth_um"]
    total = total_uncertainty(predictions)
    calibrated = predictions.get("calibrated_um", pd.Series(np.nan, predictions.index)).astype(float)
    return predictions.assign(
        censored=predictions["censored"].astype(bool),
        error_um=error,
        relative_error=error.abs() / predictions["truth_um"],
        total_um=total,
        calibrated_um=calibrated,
        covered=(error.abs() <= EXPANSION * total).astype(float),
        covered_calibrated=(error.abs() <= EXPANSION * calibrated).astype(float).where(calibrated.notna()),
    )


def _error_over_uncertainty(scored: pd.DataFrame, end: str) -> dict[str, float]:
    uncertainty = scored["total_um" if not end else "calibrated_um"]
    value = root_mean((scored["error_um"] / uncertainty).to_numpy() ** 2) if len(scored) else np.nan
    return {f"error_over_uncertainty{end}": float(value)}


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


def _score(group: str, points: pd.DataFrame) -> dict:
    by_image = ["group", "image"]
    scored = points[~points["censored"]]
    midpoints = points.groupby(by_image, sort=False).mean(numeric_only=True)
    unflagged = scored.groupby(by_image, sort=False)["error_um"].mean()

    def squares(column: str) -> np.ndarray:
        if column not in midpoints:
            return np.full(len(midpoints), np.nan)
        return (midpoints[column] - midpoints["truth_um"]).to_numpy() ** 2

    own, mean, shortcut = squares("predicted_um"), squares("train_mean_um"), squares("shortcut_um")
    rmse, rmse_mean, rmse_shortcut = (float(root_mean(part)) for part in (own, mean, shortcut))
    rmse_low, rmse_high = rmse_interval(own)
    row = {
        "group": group,
        "n": len(midpoints),
        "rmse_midpoint_um": rmse,
        "rmse_train_mean_um": rmse_mean,
        "rmse_shortcut_um": rmse_shortcut,
        "relative_error": scored["relative_error"].mean(),
        "coverage_95": scored["covered"].mean(),
        "rmse_midpoint_unflagged_um": float(root_mean(unflagged.to_numpy() ** 2)) if len(unflagged) else float("nan"),
        "censored_share": float(points["censored"].mean()),
        "rmse_midpoint_low_um": rmse_low,
        "rmse_midpoint_high_um": rmse_high,
    }
    for end in ("", "_calibrated"):
        # Every image of a group has the same flags, so the mean over images of their coverage is that over points.
        covered = scored.groupby(by_image, sort=False)[f"covered{end}"].mean().dropna().to_numpy(float)
        low, high = interval(covered, bounds=(0, 1))
        row |= {f"coverage_95{end}_low": low, f"coverage_95{end}_high": high, **_error_over_uncertainty(scored, end)}
    return row | {
        "coverage_95_calibrated": scored["covered_calibrated"].mean(),
        "rmse_over_train_mean": rmse / rmse_mean if rmse_mean > 0 else float("nan"),
        "rmse_over_shortcut": rmse / rmse_shortcut if rmse_shortcut > 0 else float("nan"),
        "against_train_mean": _verdict(own - mean),
        "against_shortcut": _verdict(own - shortcut),
    }


def _verdict(difference: np.ndarray) -> str:
    """Is the ensemble's squared error the smaller one on the same images? Empty where there is nothing to compare."""
    if np.isnan(difference).any():
        return ""
    low, high = interval(difference)
    # Fewer than six images have no interval (NaN), and both comparisons are then False.
    return "better" if high < 0 else "worse" if low > 0 else "not told apart"
