"""The one rule for 95 % intervals, used by all tables: how it is made, when it is refused, what it covers.

All intervals are over patients (or images, where each is its own): values of one patient are not independent. Coverage
is shown by simulation in tests/benchmarks/interval_coverage.py, the numbers stand in docs/reference/metrics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import bdtr, betaincinv, stdtrit

FEWEST_PATIENTS = 6
"""With fewer, no interval: it could not be shown to cover, and no test of signs could reach 5 % (2 / 2^5 > 0.05)."""
TOO_FEW = "too few patients"
"""What a table or a sentence says where there is no interval."""
FIRST_ORDER, SKEWNESS, SMALL_SAMPLE = 0.74, 30.0, 2.5
"""Widening of Student's interval: by (0.74 + 30/n) |G|/√n on the side of the longer tail, by 2.5/n on both."""
DIRICHLET_DRAWS = 4000

Interval = tuple[float, float]
NOTHING: Interval = (float("nan"), float("nan"))


def interval(
    values: ArrayLike, groups: ArrayLike | None = None, *, bounds: Interval | None = None, level: float = 0.95
) -> Interval:
    """Interval of a mean, over patients.

    Student's interval of the patients, widened for few patients and on the side of the longer tail. With G, the sample
    skewness, its half-width is t s/√n (1 + 2.5/n), on the side of the longer tail times 1 + (0.74 + 30/n) |G|/√n. For
    many patients that is the first-order correction for skewness (Johnson 1978); a small sample shows too little of
    the skewness that it was drawn from. Where patients have unequal numbers of values, n in these factors is their
    effective number (Kish). Where half of the patients or more have one and the same value, as shares of few hits have,
    the spread says little: one more patient is then added at each bound in the manner of Gaffke, and the wider of both
    ends is given. Single hits, one of each patient, have the exact interval of Clopper and Pearson.

    Args:
        values: (n,) finite, one per observation; the mean is over observations.
        groups: what each value belongs to (patient); values of a group are not independent. None: each its own.
        bounds: least and largest possible value, (0, 1) for a share; None: hits (all values 0 or 1) and their
            differences are recognised, nothing is known of others.
        level: coverage of the interval.

    Returns:
        Low and high end; both NaN with fewer than six patients.

    Raises:
        ValueError: values are not finite, or `groups` has another length.

    Reference: Johnson, J. Am. Stat. Assoc. 73 (1978) 536; Gaffke, Three test statistics for a nonparametric one-sided
    hypothesis on the mean of a nonnegative variable, Math. Methods Statist. 14 (2005) 451; Clopper and Pearson,
    Biometrika 26 (1934) 404.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(
            f"values: found shape {values.shape} with NaN or infinity, expected (n,) finite; leave them out"
        )
    if groups is not None:
        groups = np.asarray(groups)
        if len(groups) != len(values):
            raise ValueError(f"groups: found {len(groups)} entries, expected {len(values)}, one per value")
    codes = np.arange(len(values)) if groups is None else pd.factorize(groups, sort=True)[0]
    number = codes.max(initial=-1) + 1
    if number < FEWEST_PATIENTS:
        return NOTHING
    sums, counts = np.bincount(codes, values), np.bincount(codes)
    if number == len(values) and np.isin(values, (0, 1)).all() and bounds in (None, (0, 1)):
        return proportion_interval(int(values.sum()), int(number), level)
    mean = sums.sum() / counts.sum()
    pseudo = mean + (number - 1) * (sums - mean * counts) / (counts.sum() - counts)
    ends = interval_of_estimate(mean, pseudo, effective=counts.sum() ** 2 / (counts**2).sum(), level=level)
    bounds = bounds or _bounds_of_hits(values)
    if bounds is None:
        return ends
    if lumped(sums / counts):
        ends = _hull(ends, _bounded(sums, counts, bounds, level))
    return max(ends[0], bounds[0]), min(ends[1], bounds[1])


def interval_of_estimate(
    estimate: float, pseudo_values: np.ndarray, *, effective: float | None = None, level: float = 0.95
) -> Interval:
    """The rule of `interval` for any statistic, from the jackknife over patients.

    Args:
        estimate: the statistic of all patients.
        pseudo_values: (n,) n · estimate - (n - 1) · estimate without patient i; of a mean, the patients' means.
        effective: number of patients of equal size that say as much as these (Kish); None: all of them.
        level: coverage of the interval.

    Returns:
        Low and high end; NaN with fewer than six patients or where a pseudo-value is not finite.

    Reference: Tukey, Ann. Math. Stat. 29 (1958) 614 (pseudo-values).
    """
    n = len(pseudo_values)
    if n < FEWEST_PATIENTS or not np.isfinite(pseudo_values).all():
        return NOTHING
    spread, skewness = pseudo_values.std(ddof=1), _skewness(pseudo_values)
    half = stdtrit(n - 1, (1 + level) / 2) * spread / np.sqrt(n)
    low, high = (half * widening(skewness, effective or n, side) for side in (-1, 1))
    return float(estimate - low), float(estimate + high)


def widening(skewness: float, n: float, side: int) -> float:
    """By how much the half-width below (side -1) or above (1) exceeds that of Student's interval."""
    return (1 + SMALL_SAMPLE / n) * (1 + (FIRST_ORDER + SKEWNESS / n) / np.sqrt(n) * max(side * skewness, 0))


def difference_interval(first: tuple[float, float, float], second: tuple[float, float, float]) -> Interval:
    """Interval of a difference of two independent values from their own intervals.

    Args:
        first: value, low and high end.
        second: the same of what is taken away.

    Reference: Zou and Donner, Stat. Med. 27 (2008) 1693 (method of variance estimates recovery).
    """
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    return a - b - float(np.hypot(a - a_low, b_high - b)), a - b + float(np.hypot(a_high - a, b - b_low))


def jackknife(statistic: Callable[[np.ndarray], np.ndarray], patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A statistic of weighted images, and its pseudo-values over patients.

    Args:
        statistic: from weights (m, n) of the images to values (m, s).
        patients: (n,) numbers from 0 without a gap.

    Returns:
        (s,) of all images and (patients, s) pseudo-values.
    """
    whole = statistic(np.ones((1, len(patients))))[0]
    number = int(patients.max()) + 1
    without = np.concatenate([statistic(weights) for weights in _without_each(patients, number)])
    return whole, number * whole - (number - 1) * without


def _without_each(patients: np.ndarray, number: int) -> Iterator[np.ndarray]:
    """Weights (m, n) that leave out one patient each, in blocks of at most 100 MB or so."""
    block = max(1, 10_000_000 // len(patients))
    for start in range(0, number, block):
        yield (np.arange(start, min(start + block, number))[:, None] != patients).astype(np.float64)


def rmse_interval(squares: ArrayLike, groups: ArrayLike | None = None, *, level: float = 0.95) -> Interval:
    """Interval of a root mean square, from `interval` of the squares."""
    low, high = interval(squares, groups, bounds=(0.0, np.inf), level=level)
    return float(np.sqrt(low)), float(np.sqrt(high))


def median_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Interval of a median between two values of the sample: exact, whatever the distribution.

    Args:
        values: (n,) finite, independent.
        level: least coverage of the interval.

    Returns:
        Low and high end; NaN with fewer than six values, where even the smallest and the largest cover less than 95 %.

    Reference: Thompson, Ann. Math. Stat. 7 (1936) 122.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    if len(ordered) < FEWEST_PATIENTS:
        return NOTHING
    # The largest k such that at most (1 - level) / 2 lies beyond the k-th smallest.
    k = int(np.searchsorted(bdtr(np.arange(len(ordered) + 1), len(ordered), 0.5), (1 - level) / 2))
    return float(ordered[max(k - 1, 0)]), float(ordered[len(ordered) - max(k, 1)])


def proportion_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Exact interval of a proportion of independent trials; it covers at least as often as it says, for any n.

    Args:
        successes: 0..n.
        n: trials; 0 gives the whole range, nothing is known.
        level: coverage of the interval.

    Returns:
        Low and high end, within 0-1.

    Raises:
        ValueError: successes do not lie within 0..n.

    Reference: Clopper and Pearson, Biometrika 26 (1934) 404.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"found {successes} successes of {n}, expected 0 to {n}")
    tail = (1 - level) / 2
    low = betaincinv(successes, n - successes + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, n - successes, 1 - tail) if successes < n else 1.0
    return float(low), float(high)


def root_mean(squares: np.ndarray, axis: int = -1) -> np.ndarray:
    """Root of the mean along an axis: the RMSE of squared errors."""
    return np.sqrt(np.mean(np.asarray(squares), axis=axis))


def _skewness(values: np.ndarray) -> float:
    """Sample skewness G, corrected for the size of the sample; 0 where all values are equal."""
    n, centred = len(values), values - values.mean()
    variance = np.mean(centred**2)
    if variance <= 1e-24 * np.mean(values**2):
        return 0.0
    return float(np.mean(centred**3) / variance**1.5 * np.sqrt(n * (n - 1)) / (n - 2))


def lumped(means: np.ndarray) -> bool:
    """Whether half of the patients or more have the same value, up to rounding."""
    return np.unique(means.round(9), return_counts=True)[1].max() >= len(means) / 2


def _bounds_of_hits(values: np.ndarray) -> Interval | None:
    """Bounds of hits and misses (0, 1), or of differences of them."""
    if not np.isin(values, (-1, 0, 1)).all():
        return None
    return (-1.0, 1.0) if values.min() < 0 else (0.0, 1.0)


def _bounded(sums: np.ndarray, counts: np.ndarray, bounds: Interval, level: float) -> Interval:
    """Gaffke's interval: patients weighted by a flat Dirichlet distribution, one more of them at the bound."""
    weights = _dirichlet(len(sums))
    images = weights[:, :-1] @ counts + weights[:, -1] * counts.mean()
    total = weights[:, :-1] @ sums
    tail = (1 - level) / 2
    low, high = (
        # Beyond a side without a bound nothing is added: the hull with the other interval leaves this end out.
        float(np.quantile((total + weights[:, -1] * counts.mean() * bound) / images, end))
        if np.isfinite(bound)
        else -bound
        for bound, end in zip(bounds, (tail, 1 - tail), strict=True)
    )
    return low, high


@lru_cache(maxsize=64)
def _dirichlet(n: int) -> np.ndarray:
    """Flat Dirichlet weights (draws, n + 1), the same for all callers."""
    draws = max(500, min(DIRICHLET_DRAWS, 4_000_000 // n))
    weights = np.random.default_rng(0).dirichlet(np.ones(n + 1), draws)
    weights.flags.writeable = False
    return weights


def _hull(first: Interval, second: Interval) -> Interval:
    return min(first[0], second[0]), max(first[1], second[1])
