"""Comparison of methods on the same images."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats


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
