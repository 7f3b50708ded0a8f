"""Difference of Means (DoM): how much a method's score depends on the architecture of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from xiqa.metrics.maps.repeatability import repeatability
from xiqa.metrics.statistics import difference_interval, interval


@dataclass(frozen=True)
class DifferenceOfMeans:
    """Differences between architectures; 0 is perfect consistency.

    Attributes:
        largest: the largest difference of two architectures: DoM of Özer, where there are two.
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


def difference_of_means(scores: Mapping[str, Sequence[float]], *, level: float = 0.95) -> DifferenceOfMeans:
    """|mean score of architecture A - mean score of architecture B|, for all pairs of architectures.

    Args:
        scores: architecture -> (repeats,) one score per repeat, such as the Pointing Game accuracy.
        level: coverage of the intervals of all pairs together (Bonferroni), since the largest is chosen among them.

    Returns:
        See `DifferenceOfMeans`. An interval is that of the signed difference, folded at 0: it begins at 0 where the
        sign is open. It is NaN where an architecture has fewer than six repeats.

    Raises:
        ValueError: fewer than two architectures, or a score that is missing or not finite.

    Reference: Özer, section 4.5 and tables 5 and 6; Zou and Donner, Stat. Med. 27 (2008) 1693 (interval of a
    difference from those of its sides).
    """
    if len(scores) < 2:
        raise ValueError(f"architectures: found {list(scores)}, expected at least two to compare")
    found = {architecture: repeatability(values) for architecture, values in scores.items()}
    level = 1 - (1 - level) / (len(scores) * (len(scores) - 1) / 2)
    sides = {architecture: interval(values, level=level) for architecture, values in scores.items()}
    rows = []
    for first, second in combinations(scores, 2):
        signed = found[first].mean - found[second].mean
        ends = difference_interval((found[first].mean, *sides[first]), (found[second].mean, *sides[second]))
        low = 0.0 if ends[0] <= 0 <= ends[1] else np.abs(ends).min()
        rows.append((first, second, abs(signed), low, np.abs(ends).max(), found[first].n, found[second].n))
    columns = ["first", "second", "difference", "ci_low", "ci_high", "n_first", "n_second"]
    pairs = pd.DataFrame(rows, columns=columns)
    largest = pairs.loc[pairs["difference"].idxmax()]
    difference, ci_low, ci_high = (float(largest[name]) for name in ("difference", "ci_low", "ci_high"))
    return DifferenceOfMeans(difference, ci_low, ci_high, float(pairs["difference"].mean()), pairs)
