"""Whether methods are better than others on the same patients: one test, corrected for the number of methods."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

EXACT_UP_TO = 13
"""Patients up to which all 2^n changes of signs are counted; above, 9,999 random ones and the sample itself."""
RANDOM_FLIPS = 10_000


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values (n,), in the order given.

    Reference: Holm, Scand. J. Stat. 6 (1979) 65.
    """
    p_values = np.asarray(p_values, np.float64)
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty_like(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return adjusted


def corrected_p(differences: np.ndarray) -> np.ndarray:
    """One-sided p-values that differences are above 0, corrected for the number of hypotheses.

    The signs of all differences of a patient are changed together, so that the test knows how alike the methods are;
    a hypothesis is judged against the largest statistic of those that are no stronger (step-down). Where each
    patient's differences are as likely with the opposite signs, the probability of any false "above 0" is at most
    the level, whatever the other hypotheses are. Hypotheses with less than half of the others' patients are a family
    of their own, since the largest statistic grows with their number; p-values are then multiplied by the families.

    Args:
        differences: (patients, hypotheses); NaN where a patient says nothing.

    Returns:
        (hypotheses,) p-values; 1 where no difference is other than 0.

    Reference: Westfall and Young, Resampling-Based Multiple Testing, 1993, algorithm 2.8; Fisher, The Design of
    Experiments, 1935, section 21 (changes of signs).
    """
    differences = np.asarray(differences, np.float64)
    found = np.ones(differences.shape[1])
    families = _families(np.isfinite(differences).sum(0))
    for family in families:
        found[family] = np.minimum(len(families) * _step_down(differences[:, family]), 1)
    return found


def smallest_p(patients: int) -> float:
    """The smallest p-value that `corrected_p` can give for one family."""
    return 1 / len(_flips(patients)) if patients else 1.0


def _families(patients: np.ndarray) -> list[np.ndarray]:
    """Hypotheses (as indices) by number of patients: each family has at least half of its largest number."""
    families, left = [], np.flatnonzero(patients > 0)
    while len(left):
        large = 2 * patients[left] >= patients[left].max()
        families.append(left[large])
        left = left[~large]
    return families


def _step_down(differences: np.ndarray) -> np.ndarray:
    told = np.isfinite(differences).any(1)
    differences = np.nan_to_num(differences[told])
    size = np.sqrt((differences**2).sum(0))
    # The sum of squares is the same for all signs, so that this grows with Student's t.
    scaled = differences / np.where(size > 0, size, np.inf)
    observed = scaled.sum(0)
    order = np.argsort(-observed, kind="stable")
    drawn = _flips(len(differences)) @ scaled[:, order]
    largest = np.maximum.accumulate(drawn[:, ::-1], axis=1)[:, ::-1]
    found = np.empty(len(order))
    found[order] = np.maximum.accumulate((largest >= observed[order] - 1e-9).mean(0))
    return np.where(size > 0, found, 1.0)


@lru_cache(maxsize=32)
def _flips(n: int) -> np.ndarray:
    """Signs (m, n) of float64; the first row is all 1, the sample itself."""
    if n <= EXACT_UP_TO:
        flips = 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    else:
        flips = 1.0 - 2.0 * np.random.default_rng(0).integers(0, 2, (RANDOM_FLIPS, n))
        flips[0] = 1
    flips.flags.writeable = False
    return flips
