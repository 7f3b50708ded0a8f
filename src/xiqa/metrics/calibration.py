"""Calibration of the ensemble's uncertainty on validation images at exposure settings of their own."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import chdtri, stdtrit

from xiqa.metrics.prediction import EXPANSION, total_uncertainty
from xiqa.metrics.statistics import root_mean

ALL = "all"
COLUMNS = (
    *("setting", "images", "settings", "error_over_uncertainty", "allowance", "scale"),
    *("coverage_95", "coverage_95_calibrated", "error_over_uncertainty_low", "error_over_uncertainty_high"),
)


def calibrate(validation: pd.DataFrame | None) -> pd.DataFrame:
    """One factor for all standard uncertainties, from the errors at validation settings.

    The factor that makes the mean square of error / uncertainty 1 is the closed-form maximum-likelihood scale of normal
    errors. Images of one setting share its truth and most of the network's error: settings, not images, are counted.
    Every setting weighs equally, and the factor is larger by t(0.975, m) / 1.96 for m settings, as for any standard
    deviation estimated with m degrees of freedom, so that ± 1.96 calibrated uncertainties cover 95 % of the points at
    a new setting of the same kind, even where all errors of a setting are one and the same.

    Args:
        validation: rows as of predictions.csv: group (the setting), truth_um, predicted_um, aleatoric_um,
            epistemic_um, censored; points flagged as censored are left out. None: there is no validation setting.

    Returns:
        The table uncertainty_calibration.csv. One row per setting, left out of its own calibration: setting, images,
        settings (m, the others), error_over_uncertainty (root mean square), allowance (t / 1.96), scale (product over
        the others), coverage_95 as predicted, and coverage_95_calibrated with that scale. The last row, `all`, has the
        scale to use, from all settings, the means of both coverages, and the 95 % interval of error_over_uncertainty
        (chi-squared with m degrees of freedom). Empty without a point that can be compared.

    Reference: Guide to the Expression of Uncertainty in Measurement (JCGM 100:2008), annex G.3; Kuleshov et al. 2018
    and Laves et al. 2020 (scaling of the variance).
    """
    if validation is None:
        return pd.DataFrame(columns=list(COLUMNS))
    points = validation[~validation["censored"].astype(bool)]
    ratio = (points["predicted_um"] - points["truth_um"]).abs() / total_uncertainty(points)
    by_setting = {setting: part.to_numpy() for setting, part in ratio.groupby(points["group"], sort=False)}
    images = points.groupby("group", sort=False)["image"].nunique()
    squares = pd.Series({setting: np.mean(part**2) for setting, part in by_setting.items()}, dtype=float)
    rows = []
    for setting, part in by_setting.items():
        row = {"setting": setting, "images": images[setting], **_scale(squares.drop(setting).to_numpy())}
        # The ratio of the setting itself is shown; the scale comes from the others.
        row |= {"error_over_uncertainty": np.sqrt(squares[setting]), "coverage_95": np.mean(part <= EXPANSION)}
        covered = np.mean(part <= EXPANSION * row["scale"]) if row["settings"] else np.nan
        rows.append(row | {"coverage_95_calibrated": covered})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    if len(table):
        means = {name: table[name].mean() for name in ("coverage_95", "coverage_95_calibrated")}
        row = {"setting": ALL, "images": images.sum(), **_scale(squares.to_numpy()), **means}
        low, high = row["error_over_uncertainty"] * np.sqrt(row["settings"] / chdtri(row["settings"], [0.025, 0.975]))
        row |= {"error_over_uncertainty_low": low, "error_over_uncertainty_high": high}
        table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)[list(COLUMNS)]
    return table


def scale_of(calibration: pd.DataFrame) -> float:
    """The factor of a calibration for all standard uncertainties; NaN where nothing could be calibrated."""
    scale = calibration.loc[calibration["setting"] == ALL, "scale"]
    return float(scale.iloc[0]) if len(scale) else float("nan")


def _scale(squares: np.ndarray) -> dict[str, float]:
    m = len(squares)
    if m == 0:
        return {"settings": 0, "error_over_uncertainty": np.nan, "allowance": np.nan, "scale": np.nan}
    ratio, allowance = float(root_mean(squares)), float(stdtrit(m, 0.975)) / EXPANSION
    return {"settings": m, "error_over_uncertainty": ratio, "allowance": allowance, "scale": ratio * allowance}
