"""Difference of Means (DoM): how much a method's score depends on the architecture of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from xiqa.metrics.maps.repeatability import repeatability


@dataclass(frozen=True)
class DifferenceOfMeans:
    """Differences between architectures; 0 is perfect consistency.

    Attributes:
        largest: the largest difference of two architectures: DoM of paper 001, where there are two.
        ci_low: low end of the 95 % interval of that pair.
        ci_high: its high end.
        mean: mean difference of all pairs.
        pairs: one row per pair: first, second, difference, ci_low, ci_high, n_first, n_second (repeats).
    """

    largest: float
    ci_low: float
    ci_high: float
    mean: float
    pairs: pd.DataFrame


def difference_of_means(
    scores: Mapping[str, Sequence[float]], *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> DifferenceOfMeans:
    """|mean score of architecture A - mean score of architecture B|, for all pairs of architectures.

    Args:
        scores: architecture -> (repeats,) one score per repeat, such as the Pointing Game accuracy.
        draws: bootstrap draws; the repeats of each architecture are resampled.
        level: coverage of the intervals.
        seed: seed of the draws.

    Returns:
        See `DifferenceOfMeans`. An interval is that of the signed difference, folded at 0: it begins at 0 where the
        sign is open. It is NaN where an architecture has a single repeat, and too narrow for two or three.

    Raises:
        ValueError: fewer than two architectures, or a score that is missing or not finite.

    Reference: paper 001, section 4.5 and tables 5 and 6.
    """
    if len(scores) < 2:
        raise ValueError(f"architectures: found {list(scores)}, expected at least two to compare")
    rng = np.random.default_rng(seed)
    found, drawn = {}, {}
    for architecture, values in scores.items():
        found[architecture] = repeatability(values)
        n = found[architecture].n
        drawn[architecture] = np.asarray(values)[rng.integers(0, n, (draws, n))].mean(1) if n > 1 else np.nan
    rows = []
    for first, second in combinations(scores, 2):
        ends = np.quantile(drawn[first] - drawn[second], [(1 - level) / 2, (1 + level) / 2])
        low = 0.0 if ends[0] <= 0 <= ends[1] else np.abs(ends).min()
        difference = abs(found[first].mean - found[second].mean)
        rows.append((first, second, difference, low, np.abs(ends).max(), found[first].n, found[second].n))
    columns = ["first", "second", "difference", "ci_low", "ci_high", "n_first", "n_second"]
    pairs = pd.DataFrame(rows, columns=columns)
    largest = pairs.loc[pairs["difference"].idxmax()]
    ends = [float(largest[name]) for name in ("difference", "ci_low", "ci_high")]
    return DifferenceOfMeans(*ends, float(pairs["difference"].mean()), pairs)
