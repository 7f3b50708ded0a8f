"""Who knows the curve of a system that it has never seen: networks, shortcut and readings side by side."""

from __future__ import annotations

import numpy as np
import pandas as pd

from xiqa.metrics.prediction import EXPANSION
from xiqa.metrics.statistics import interval

METHODS = {
    "shortcut": "the shortcut (background mean and SD)",
    "sampled": "the sampled network",
    "cells": "the network of the cells",
    "graded": "graded signals of one image",
    "counted": "counted hits of all images of a setting",
}

VERDICTS = {
    "better": "It is better than the shortcut.",
    "worse": "It is worse than the shortcut.",
    "not told apart": "It is not told apart from the shortcut.",
}


def scores(points: pd.DataFrame) -> pd.DataFrame:
    """Relative error and coverage of each method, by test group and diameter.

    Args:
        points: method, group, setting, image, diameter_mm, truth_um, predicted_um, low_um, high_um (95 % interval, NaN
            without one), censored (of the truth: such points are left out).

    Returns:
        group, method, diameter_mm (NaN: all together), settings, images, relative_error with its 95 % interval over
        settings (_low, _high, NaN below six), ratio (geometric mean of predicted / true), coverage_95,
        against_shortcut: `better` or `worse` where the interval over settings of the difference of relative errors
        leaves out 0, else `not told apart`.
    """
    points = points[~points["censored"].astype(bool) & np.isfinite(points["predicted_um"])]
    points = points.assign(
        relative_error=(points["predicted_um"] / points["truth_um"] - 1).abs(),
        log_ratio=np.log(points["predicted_um"] / points["truth_um"]),
        covered=points["truth_um"].between(points["low_um"], points["high_um"]).where(points["low_um"].notna()),
    )
    rows = []
    keys = ["group", "method", "diameter_mm"]
    for part in (points.assign(diameter_mm=np.nan), points):
        for key, found in part.groupby(keys, sort=False, dropna=False):
            # Images of one setting share its truth: settings are counted.
            by_setting = found.groupby("setting")["relative_error"].mean().to_numpy()
            low, high = interval(by_setting, bounds=(0, np.inf))
            group, method, diameter = key
            shortcut = part[(part["group"] == group) & (part["method"] == "shortcut")]
            if not pd.isna(diameter):
                shortcut = shortcut[shortcut["diameter_mm"] == diameter]
            verdict = "" if method == "shortcut" else _verdict(found, shortcut)
            rows.append(
                dict(zip(keys, key, strict=True))
                | {"settings": len(by_setting), "images": found["image"].nunique()}
                | {"relative_error": by_setting.mean(), "relative_error_low": low, "relative_error_high": high}
                | {"ratio": np.exp(found["log_ratio"].mean()), "coverage_95": found["covered"].astype(float).mean()}
                | {"against_shortcut": verdict}
            )
    return pd.DataFrame(rows)


def _verdict(points: pd.DataFrame, shortcut: pd.DataFrame) -> str:
    """Is a method's relative error smaller than that of the shortcut at the same settings?"""
    own, other = (part.groupby("setting")["relative_error"].mean() for part in (points, shortcut))
    low, high = interval((own - other).dropna().to_numpy())
    # Fewer than six settings have no interval (NaN), and both comparisons are then False.
    return "better" if high < 0 else "worse" if low > 0 else "not told apart"


def shortcut_spread(predicted_um: np.ndarray, truth_um: np.ndarray, censored: np.ndarray) -> np.ndarray:
    """Root mean square (12,) of ln(predicted / true) over validation images, all (n, 12), censored points left out."""
    logs = np.where(censored, np.nan, np.log(predicted_um / truth_um))
    with np.errstate(invalid="ignore"):
        squares = np.nansum(logs**2, axis=0) / np.sum(~censored, axis=0)
    # Where no point is measured at a diameter, the spread of all stands for it.
    return np.sqrt(np.where(np.isfinite(squares), squares, np.nanmean(logs**2)))


def bounds(predicted_um: np.ndarray, uncertainty: np.ndarray, logarithmic: bool) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals about predictions, by a standard uncertainty in µm or of the logarithm."""
    if logarithmic:
        factor = np.exp(EXPANSION * uncertainty)
        return predicted_um / factor, predicted_um * factor
    return predicted_um - EXPANSION * uncertainty, predicted_um + EXPANSION * uncertainty


def findings(table: pd.DataFrame, shares: pd.DataFrame) -> list[tuple[str, str | pd.DataFrame]]:
    """What came out, as headings with sentences and tables.

    Args:
        table: from `scores`.
        shares: summary of the structure shares (`summarise_structure_share`), method sampled or cells.
    """
    whole = table[table["diameter_mm"].isna()].set_index(["group", "method"])
    names = {"drawn": "held-out drawn settings", "ood": "the out-of-distribution setting"}
    names["recorded_standin"] = "the stand-in for recordings"
    found = []
    for group, name in names.items():
        for method, called in METHODS.items():
            if (group, method) not in whole.index:
                continue
            row = whole.loc[(group, method)]
            sentence = f"At {name} the mean relative error of {called} is {row['relative_error']:.1%}."
            # The shortcut itself has none: an empty cell of the table, which is read as NaN.
            if row["against_shortcut"] in VERDICTS:
                sentence += f" {VERDICTS[row['against_shortcut']]}"
            found.append(("Errors", sentence))
    shown = whole.reset_index()[
        ["group", "method", "settings", "images", "relative_error", "ratio", "coverage_95", "against_shortcut"]
    ]
    found.append(("All diameters together", shown.round(3)))
    by_diameter = table[table["diameter_mm"].notna()]
    wide = by_diameter.pivot_table(
        index=["group", "method"], columns="diameter_mm", values="relative_error", sort=False
    ).round(3)
    found.append(("Relative error by diameter in mm", wide.reset_index().rename(columns=str)))
    for method in ("sampled", "cells"):
        part = shares[(shares["method"] == method) & (shares["group"] == "all")]
        discs = part[part["structure"] == "disc"][["share_abs", "share_area"]].sum()
        found.append(
            (
                "OMIG",
                f"Of the map of {METHODS[method]} {discs['share_abs']:.1%} lies on discs, which have "
                f"{discs['share_area']:.1%} of the image.",
            )
        )
    return found
