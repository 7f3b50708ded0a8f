"""Confidence intervals, used by all tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.special import ndtri


def bootstrap_ci(
    values: np.ndarray,
    groups: Sequence | None = None,
    *,
    statistic: Callable[..., np.ndarray] = np.mean,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic.

    Args:
        values: (n,) finite values, one per observation.
        groups: what each value belongs to (patient, image); whole groups are then drawn, because values within one
            group are not independent. None draws single values.
        statistic: function of values and `axis`, such as `np.mean`, `np.median` or `root_mean`.
        draws: bootstrap draws.
        level: coverage of the interval.
        seed: seed of the draws; equal seeds give equal intervals.

    Returns:
        Low and high end; both NaN where fewer than two values or groups leave nothing to resample.

    Raises:
        ValueError: values are not finite, or `groups` has another length.

    Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(
            f"values: found shape {values.shape} with NaN or infinity, expected (n,) finite; leave them out"
        )
    if groups is not None and len(groups) != len(values):
        raise ValueError(f"groups: found {len(groups)} entries, expected {len(values)}, one per value")
    rng = np.random.default_rng(seed)
    if groups is None:
        if len(values) < 2:
            return float("nan"), float("nan")
        drawn = statistic(values[rng.integers(0, len(values), (draws, len(values)))], axis=1)
    else:
        codes, names = pd.factorize(np.asarray(groups))
        if len(names) < 2:
            return float("nan"), float("nan")
        members = [values[codes == code] for code in range(len(names))]
        drawn = np.empty(draws)
        for draw, chosen in enumerate(rng.integers(0, len(names), (draws, len(names)))):
            drawn[draw] = statistic(np.concatenate([members[code] for code in chosen]), axis=0)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def root_mean(squares: np.ndarray, axis: int = -1) -> np.ndarray:
    """Root of the mean along an axis: the RMSE of squared errors."""
    return np.sqrt(np.mean(np.asarray(squares), axis=axis))


def wilson_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion.

    Args:
        successes: 0..n.
        n: trials; 0 gives the whole range, nothing is known.
        level: coverage of the interval.

    Returns:
        Low and high end, within 0-1.

    Raises:
        ValueError: successes do not lie within 0..n.

    Reference: Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"found {successes} successes of {n}, expected 0 to {n}")
    if n == 0:
        return 0.0, 1.0
    z = ndtri((1 + level) / 2)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At the ends the exact limit is 0 or 1; rounding must not carry it beyond.
    return (0.0 if successes == 0 else float(centre - half)), (1.0 if successes == n else float(centre + half))
