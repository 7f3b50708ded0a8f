"""What a contrast-detail curve is held against: the European limits, and the range that the phantom can measure."""

import numpy as np
import pandas as pd

from xiqa.cdmam.phantom import THICKNESSES_UM

LIMIT_DIAMETERS_MM = np.array([2.0, 1.0, 0.5, 0.25, 0.1])
LIMITS = {
    "acceptable": np.array([0.069, 0.091, 0.150, 0.352, 1.68]),
    "achievable": np.array([0.038, 0.056, 0.103, 0.244, 1.10]),
}
"""European limits in µm for `LIMIT_DIAMETERS_MM` (European guidelines for quality assurance in breast cancer
screening and diagnosis, 4th edition, 2006)."""

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


def censored_side(curve: pd.DataFrame) -> np.ndarray:
    """Where the censored thresholds of a curve lie: (12,) of "below" (0.03 µm), "above" (2 µm) or ""."""
    t_auto = curve["t_auto_um"].to_numpy()
    side = np.where(t_auto <= RANGE_UM[0], "below", "above")
    return np.where(curve["censored"].to_numpy(dtype=bool), side, "")
