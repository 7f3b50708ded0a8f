"""Confidence intervals and paired comparisons, used by all tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats


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
    z = stats.norm.ppf((1 + level) / 2)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At the ends the exact limit is 0 or 1; rounding must not carry it beyond.
    return (0.0 if successes == 0 else float(centre - half)), (1.0 if successes == n else float(centre + half))


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


def paired_comparisons(scores: pd.DataFrame) -> pd.DataFrame:
    """Compare methods pair by pair on the same images.

    Args:
        scores: one row per image (or patient), one column per method; a pair uses the rows where both are present.

    Returns:
        One row per pair of columns: first, second, n, median_difference (first - second), p_value (two-sided Wilcoxon
        signed-rank test; 1 where all differences are 0) and p_holm (Holm over all pairs).

    Reference: Wilcoxon, Biometrics Bulletin 1 (1945) 80.
    """
    rows = []
    for first, second in combinations(scores.columns, 2):
        difference = (scores[first] - scores[second]).dropna().to_numpy(float)
        tested = difference.any()
        rows.append(
            {
                "first": first,
                "second": second,
                "n": len(difference),
                "median_difference": float(np.median(difference)) if len(difference) else float("nan"),
                "p_value": float(stats.wilcoxon(difference).pvalue) if tested else 1.0,
            }
        )
    table = pd.DataFrame(rows, columns=["first", "second", "n", "median_difference", "p_value"])
    return table.assign(p_holm=holm(table["p_value"].to_numpy()))
