"""Whether the share of a map on a defect grows with the severity of the defect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from xiqa.metrics.statistics import FEWEST_PATIENTS, NOTHING, interval_of_estimate

ALMOST_ONE = 1 - 1e-12
"""Correlations nearer to ±1 are taken as this: Fisher's transform of 1 is infinite."""


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
        p_value: that severities dealt out at random give so large a correlation, of either sign.
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
    p_value: float
    n: int
    not_scored: int
    n_patients: int


def dose_response(
    mass: Sequence[float], severity: Sequence[float], patients: Sequence, *, draws: int = 1999, seed: int = 0
) -> DoseResponse:
    """Rank correlation and slope of the mass on the defect with its severity.

    Intervals come from the jackknife over patients (of the correlation on Fisher's scale). They reach to 0 wherever
    the test does not speak against 0: severities are dealt out anew, within each patient that has several, else among
    the patients that have one. If the mass does not depend on the severity, that test is exact for any number of
    patients and any distribution.

    Args:
        mass: (n,) share of the map on the defect, 0-1; NaN: not scored.
        severity: (n,) severity of the defect.
        patients: (n,) whose map it is.
        draws: permutations.
        seed: seed of the permutations.

    Returns:
        See `DoseResponse`. The correlation is NaN where all masses or severities are equal, the slope where all
        severities are; intervals and p_value with fewer than six patients.

    Raises:
        ValueError: the lengths differ, or a severity is not finite.

    Reference: Fisher, The Design of Experiments, 1935, section 21 (permutations); Tukey, Ann. Math. Stat. 29 (1958) 614
    (jackknife).
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
    counts = len(mass), int((~scored).sum()), len(names)
    # The first row of weights is the sample itself, each of the others leaves out a patient.
    weights = np.vstack([np.ones(len(mass)), np.arange(len(names))[:, None] != codes])
    ranks = [_ranks(values, weights) for values in (mass, severity)]
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = _moment(ranks[1], ranks[1], weights)
        correlation = _moment(ranks[0], ranks[1], weights) / np.sqrt(_moment(ranks[0], ranks[0], weights) * spread)
        # Ranks tell exactly whether severities differ; sums of squares of equal ones may round to more than 0.
        slope = _moment(mass, severity, weights) / np.where(spread > 0, _moment(severity, severity, weights), np.nan)
    found: list[Any] = [float(correlation[0]), *NOTHING, float(slope[0]), *NOTHING, float("nan")]
    if len(names) < FEWEST_PATIENTS or np.isnan(slope[0]):
        return DoseResponse(*[*found, *counts])
    dealt = _dealt(severity, codes, draws, seed)
    transformed = np.arctanh(np.clip(correlation, -ALMOST_ONE, ALMOST_ONE))
    dealt_ranks = _ranks(severity, weights[:1])[0][dealt]
    p_values = [_p(ranks[0][0], dealt_ranks), _p(mass, severity[dealt])]
    for place, values in ((1, transformed), (4, slope)):
        low, high = interval_of_estimate(values[0], len(names) * values[0] - (len(names) - 1) * values[1:])
        # Both tests must speak against 0: either of the two alone would do so too often by chance.
        if not max(p_values) < 0.05:
            low, high = min(low, 0.0), max(high, 0.0)
        found[place : place + 2] = np.tanh((low, high)).tolist() if place == 1 else (low, high)
    found[-1] = p_values[0] if np.isfinite(correlation[0]) else float("nan")
    return DoseResponse(*[*found, *counts])


def _dealt(severity: np.ndarray, codes: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Maps (draws + 1, n) whose severity each map gets; the first row is the sample.

    Maps of one patient with equal severity keep equal ones: what is exchanged are the severities of the patient, not
    those of its maps.
    """
    cells, first, cell = np.unique(np.column_stack([codes, severity]), axis=0, return_index=True, return_inverse=True)
    cell = cell.ravel()
    patient = cells[:, 0].astype(int)
    # Cells of patients with a single severity form one pool, those of every other patient a pool each.
    pool = np.where(np.bincount(patient)[patient] > 1, patient + 1, 0)
    keys = np.random.default_rng(seed).random((draws, len(cells)))
    by_pool = np.argsort(pool, kind="stable")
    shuffled = np.argsort(keys + pool, axis=1)
    dealt = np.tile(np.arange(len(cells)), (draws + 1, 1))
    dealt[1:, by_pool] = shuffled
    return first[dealt][:, cell]


def _p(values: np.ndarray, dealt: np.ndarray) -> float:
    """Share of the rows of dealt (m, n) that go with the values (n,) at least as closely as the first row."""
    centred = dealt - dealt.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.abs(centred @ (values - values.mean())) / np.sqrt((centred**2).sum(1))
    return float((found >= found[0] * (1 - 1e-9)).mean())


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
