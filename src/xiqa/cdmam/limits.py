"""What a contrast-detail curve is held against: the European limits, and the range that the phantom can measure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from xiqa.cdmam.phantom import CDC_DIAMETERS_MM, THICKNESSES_UM, VERSIONS, Phantom, phantom

LIMIT_DIAMETERS_MM = np.array([2.0, 1.0, 0.5, 0.25, 0.1])
LIMITS = {
    "acceptable": np.array([0.069, 0.091, 0.150, 0.352, 1.68]),
    "achievable": np.array([0.038, 0.056, 0.103, 0.244, 1.10]),
}
"""European limits in µm for `LIMIT_DIAMETERS_MM` (European guidelines for quality assurance in breast cancer
screening and diagnosis, 4th edition, 2006)."""

EUROPEAN_LIMITS_UM: dict[str, dict[float, float]] = {
    name: {
        float(d): float(t) for d, t in zip(LIMIT_DIAMETERS_MM, values, strict=True) if d in CDC_DIAMETERS_MM.tolist()
    }
    for name, values in LIMITS.items()
}
"""Limit -> diameter in mm -> limit in µm, at those diameters that the curve has: 1.00, 0.50, 0.25 and 0.10 mm."""


def default_limits_um(version: str) -> dict[str, dict[float, float]]:
    """Limits that a version of the phantom is held against unless others are given; for CDMAM 4.0 there are none."""
    return EUROPEAN_LIMITS_UM if version == "3.4" else {}


MET, EXCEEDED, NOT_DETERMINED = "met", "exceeded", "not determined"

LIMIT_COEFFICIENTS = {
    "acceptable": np.array([0.05398, 0.02467, 0.01145, 0.00023]),
    "achievable": np.array([0.02355, 0.02542, 0.00689, 0.00013]),
}
"""Non-negative third-order fits a, b, c, d of the limits, as used in the field: T(d) = a + b/d + c/d² + e/d³."""

RANGE_UM = (float(THICKNESSES_UM[0]), float(THICKNESSES_UM[-1]))
"""Thinnest and thickest disc: thresholds outside are not measured but censored."""

for _table in (LIMIT_DIAMETERS_MM, *LIMITS.values(), *LIMIT_COEFFICIENTS.values()):
    _table.setflags(write=False)


def third_order_curve(coefficients: np.ndarray, diameter_mm: np.ndarray) -> np.ndarray:
    """T(d) = a + b/d + c/d² + e/d³ in µm, at any diameters."""
    return np.asarray(diameter_mm, dtype=float)[..., None] ** -np.arange(4.0) @ np.asarray(coefficients)


def limit_curve(limit: str, diameter_mm: np.ndarray) -> np.ndarray:
    """European limit ("acceptable" or "achievable") in µm at any diameters, by its third-order fit."""
    if limit not in LIMIT_COEFFICIENTS:
        raise ValueError(f"limit: found {limit!r}, expected one of {sorted(LIMIT_COEFFICIENTS)}")
    return third_order_curve(LIMIT_COEFFICIENTS[limit], diameter_mm)


def phantom_of_curve(curve: pd.DataFrame) -> Phantom:
    """The phantom that a curve was measured with, by its diameters."""
    for version in VERSIONS:
        if set(curve["diameter_mm"]) <= set(phantom(version).diameters_mm.tolist()):
            return phantom(version)
    raise ValueError(f"found a curve at {list(curve['diameter_mm'])} mm, expected the diameters of a CDMAM phantom")


def censored_side(curve: pd.DataFrame) -> np.ndarray:
    """Where the censored thresholds of a curve lie: (n,) of "below" the thinnest disc, "above" the thickest or ""."""
    known = phantom_of_curve(curve)
    thinnest = known.thicknesses_um[np.searchsorted(-known.diameters_mm, -curve["diameter_mm"].to_numpy(float)), 0]
    side = np.where(curve["t_auto_um"] <= thinnest, "below", "above")
    return np.where(curve["censored"].to_numpy(dtype=bool), side, "")


def verdicts(curve: pd.DataFrame, limits_um: Mapping[str, Mapping[float, float]] = EUROPEAN_LIMITS_UM) -> pd.DataFrame:
    """Hold a curve against limits, each at its own diameters, with the curve's interval taken into account.

    Args:
        curve: 12 rows with diameter_mm, cdc_um, ci_low_um and ci_high_um, as of `xiqa.cdmam.curve.CurveResult.table`.
            Of a censored threshold only a bound is known: its interval begins at 0 or ends at infinity. NaN: there is
            no interval.
        limits_um: limit -> diameter in mm -> limit in µm.

    Returns:
        One row per limit and diameter, in the order given: limit, diameter_mm, limit_um, cdc_um, ci_low_um, ci_high_um
        and verdict: "met" where the whole interval lies at the limit or below, "exceeded" where it lies above,
        "not determined" where the limit lies inside it or there is none.

    Raises:
        ValueError: a limit at a diameter that the curve does not have, or that is no positive number.
    """
    points = curve.set_index(curve["diameter_mm"].round(6))
    rows = []
    for name, by_diameter in limits_um.items():
        for diameter_mm, limit_um in by_diameter.items():
            if round(diameter_mm, 6) not in points.index:
                raise ValueError(
                    f"limit {name!r}: found a limit at {diameter_mm:g} mm, expected one of the curve's diameters "
                    f"{', '.join(f'{d:g}' for d in curve['diameter_mm'])} mm"
                )
            if not (np.isfinite(limit_um) and limit_um > 0):
                raise ValueError(f"limit {name!r} at {diameter_mm:g} mm: found {limit_um}, expected a thickness in µm")
            point = points.loc[round(diameter_mm, 6), ["cdc_um", "ci_low_um", "ci_high_um"]]
            low, high = point["ci_low_um"], point["ci_high_um"]
            verdict = MET if high <= limit_um else EXCEEDED if low > limit_um else NOT_DETERMINED
            rows.append({"limit": name, "diameter_mm": diameter_mm, "limit_um": limit_um, **point, "verdict": verdict})
    columns = ["limit", "diameter_mm", "limit_um", "cdc_um", "ci_low_um", "ci_high_um", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def overall_verdict(verdict: pd.Series) -> str:
    """The verdict on one limit from those at its diameters.

    Args:
        verdict: column `verdict` of `verdicts`, of one limit.

    Returns:
        "exceeded" if it is exceeded anywhere, "met" if it is met everywhere, else "not determined".
    """
    if (verdict == EXCEEDED).any():
        return EXCEEDED
    return MET if len(verdict) and (verdict == MET).all() else NOT_DETERMINED
