"""How near several ways to a contrast-detail curve come to one truth: graded signals, counting, network, shortcut."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from xiqa.cdmam.beam import gold_contrast
from xiqa.cdmam.curve import Human, third_order_curves
from xiqa.cdmam.detectability import detectability_threshold_um
from xiqa.cdmam.detector import correlation_mm
from xiqa.cdmam.graded import GradedImage, counted_threshold_um, graded_curve
from xiqa.cdmam.phantom import DIAMETERS_MM, Geometry
from xiqa.config import Detector, Exposure
from xiqa.metrics.statistics import interval


def analytic_curve_um(exposure: Exposure, detector: Detector, geometry: Geometry, human: Human) -> np.ndarray:
    """The curve (12,) that counting the hits of many images would give, from analytic thresholds: no image is read."""
    known = detectability_threshold_um(exposure, detector, geometry, DIAMETERS_MM)
    attenuation = -np.log1p(-float(gold_contrast(exposure, np.array([1.0]), geometry)[0]))
    counted = counted_threshold_um(known, attenuation, correlation_mm(geometry, detector))
    return third_order_curves(counted[None], np.zeros((1, 12), int), human)[0]


def score_curves(method: str, truth_um: np.ndarray, found_um: np.ndarray, low_um=np.nan, high_um=np.nan) -> dict:
    """Score n curves of one method against the truth.

    Args:
        method: its name.
        truth_um: (12,).
        found_um: (n, 12); NaN where a curve has no value.
        low_um, high_um: (n, 12) 95 % intervals, or NaN where there are none.

    Returns:
        method; curves, how many; diameters, the share with a value; relative_error, mean of |found / truth - 1|;
        relative_bias, mean of found / truth - 1; coverage_95, share of the intervals that hold the truth. Of error and
        coverage also the ends of a 95 % interval over curves (_low, _high), NaN with fewer than six.
    """
    error = np.asarray(found_um) / truth_um - 1
    low, high = (np.broadcast_to(end, error.shape) for end in (low_um, high_um))
    there = np.isfinite(error)
    known = there & ~np.isnan(low)
    held = (low <= truth_um) & (truth_um <= high)
    ends = {}
    for name, values, part, bounds in (
        ("relative_error", abs(error), there, (0.0, np.inf)),
        ("coverage_95", held, known, (0.0, 1.0)),
    ):
        of_curve = [row[measured].mean() for row, measured in zip(values, part, strict=True) if measured.any()]
        ends[f"{name}_low"], ends[f"{name}_high"] = interval(of_curve, bounds=bounds)
    return {
        "method": method,
        "curves": len(error),
        "diameters": float(there.mean()),
        "relative_error": float(abs(error[there]).mean()) if there.any() else np.nan,
        "relative_bias": float(error[there].mean()) if there.any() else np.nan,
        "coverage_95": float(held[known].mean()) if known.any() else np.nan,
        **ends,
    }


def curve_methods(
    truths_um: Mapping[str, np.ndarray],
    curves: pd.DataFrame,
    measured: Mapping[str, Mapping[str, GradedImage]],
    predictions: pd.DataFrame,
    human: Human,
) -> pd.DataFrame:
    """Compare the ways to a curve on simulated test groups.

    Args:
        truths_um: group -> (12,) `analytic_curve_um`.
        curves: cdc.csv, with the curve by counting (standard_um, its interval, and standard_censored).
        measured: group -> image -> its graded signals.
        predictions: of the test images, with shortcut_um.
        human: what the human-equivalent factor multiplies.

    Returns:
        One row per group and method, as of `score_curves`: one image by graded signals, by the ensemble and by the
        shortcut, and one curve counted on all images that were read out (images).
    """
    rows = []
    for group, truth in truths_um.items():
        counted = curves[curves["setting"] == group]
        tables = [graded_curve([image], human=human, draws=200).table for image in measured[group].values()]
        scored = []
        if tables:
            columns = [np.array([table[name] for table in tables]) for name in ("cdc_um", "ci_low_um", "ci_high_um")]
            scored.append((1, score_curves("graded signals", truth, *columns)))
        tested = predictions[predictions["group"] == group]
        if len(tested):
            found, shortcut = (tested[name].to_numpy(float).reshape(-1, 12) for name in ("predicted_um", "shortcut_um"))
            half = 1.96 * np.hypot(tested["aleatoric_um"], tested["epistemic_um"]).to_numpy(float).reshape(-1, 12)
            scored.append((1, score_curves("ensemble", truth, found, found - half, found + half)))
            scored.append((1, score_curves("shortcut", truth, shortcut)))
        ends = [counted[name].to_numpy(float)[None] for name in ("standard_um", "standard_low_um", "standard_high_um")]
        ends[0] = np.where(counted["standard_censored"].to_numpy(bool), np.nan, ends[0])
        scored.append((int(counted["images"].iloc[0]), score_curves("counting", truth, *ends)))
        rows += [{"group": group, "images": images, **row} for images, row in scored]
    return pd.DataFrame(rows)
