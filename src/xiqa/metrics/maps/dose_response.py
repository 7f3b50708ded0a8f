"""Whether the share of a map on a defect grows with the severity of the defect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from xiqa.metrics.maps.leaderboard import patient_draws


@dataclass(frozen=True)
class DoseResponse:
    """Spearman's correlation and slope (mass per unit of severity) with 95 % intervals over patients; NaN: undefined.

    Attributes:
        correlation: -1 to 1.
        correlation_low: low end of its interval.
        correlation_high: high end.
        slope: of the least-squares line.
        slope_low: low end of its interval.
        slope_high: high end.
        n: scored maps.
        not_scored: maps without a mass.
        n_patients: patients of scored maps.
    """

    correlation: float
    correlation_low: float
    correlation_high: float
    slope: float
    slope_low: float
    slope_high: float
    n: int
    not_scored: int
    n_patients: int


def dose_response(
    mass: Sequence[float], severity: Sequence[float], patients: Sequence, *, draws: int = 2000, seed: int = 0
) -> DoseResponse:
    """Rank correlation and slope of the mass on the defect with its severity.

    Whole patients are resampled, whether each has one severity or several. Draws with a single severity have no
    correlation and are left out.

    Args:
        mass: (n,) share of the map on the defect, 0-1; NaN: not scored.
        severity: (n,) severity of the defect.
        patients: (n,) whose map it is.
        draws: bootstrap draws over patients.
        seed: seed of the draws.

    Returns:
        See `DoseResponse`. The correlation is NaN where all masses or severities are equal, the slope where all
        severities are.

    Raises:
        ValueError: the lengths differ, or a severity is not finite.
    """
    mass, severity, patients = np.asarray(mass, np.float64), np.asarray(severity, np.float64), np.asarray(patients)
    if not mass.shape == severity.shape == patients.shape or mass.ndim != 1 or not np.isfinite(severity).all():
        raise ValueError(
            f"found shapes {mass.shape}, {severity.shape}, {patients.shape}, finite severities: "
            f"{bool(np.isfinite(severity).all())}; expected one mass, one finite severity and one patient per map"
        )
    scored = np.isfinite(mass)
    mass, severity = mass[scored], severity[scored]
    codes, names = pd.factorize(patients[scored], sort=True)
    # The first row of weights is the sample itself, the others are draws of it.
    weights = np.ones((1, len(mass)))
    if len(names) > 1:
        weights = np.vstack([weights, patient_draws(len(names), draws, seed)[:, codes]])
    ranks = [_ranks(values, weights) for values in (mass, severity)]
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = _moment(ranks[1], ranks[1], weights)
        correlation = _moment(*ranks, weights) / np.sqrt(_moment(ranks[0], ranks[0], weights) * spread)
        # Ranks tell exactly whether severities differ; sums of squares of equal ones may round to more than 0.
        slope = _moment(mass, severity, weights) / np.where(spread > 0, _moment(severity, severity, weights), np.nan)
    found = []
    for values in (correlation, slope):
        drawn = values[1:][np.isfinite(values[1:])]
        found += [float(values[0]), *(np.quantile(drawn, [0.025, 0.975]).tolist() if len(drawn) else [np.nan] * 2)]
    return DoseResponse(*found, len(mass), int((~scored).sum()), len(names))


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mid-ranks (draws, n), up to a constant, of values (n,) that occur `weights` (draws, n) times each."""
    if not len(values):
        return weights
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    tied = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(tied, axis=1) - tied / 2)[:, np.unique(values, return_inverse=True)[1]]


def _moment(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted covariance (draws,), not divided by the number."""
    total = weights.sum(axis=1, keepdims=True)
    centred = [values - (weights * values).sum(axis=1, keepdims=True) / total for values in (first, second)]
    return (weights * centred[0] * centred[1]).sum(axis=1)
