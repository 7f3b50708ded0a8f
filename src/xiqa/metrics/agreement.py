"""Agreement between readers beyond chance, each coefficient with what it takes for chance.

Readings are an array (readers, items) of categories 0, 1, ... k - 1; NaN where a reader gave no answer.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

NAN = float("nan")


def cohen_kappa(first: ArrayLike, second: ArrayLike, categories: int, *, quadratic: bool = False) -> float:
    """Cohen's κ of two readers, over the items that both have answered.

    Args:
        first, second: (n,) categories.
        categories: how many there are.
        quadratic: weigh disagreements by the square of their distance, for grades.

    Returns:
        1 for full agreement, 0 for that of chance; NaN where both readers gave one and the same answer always.

    Reference: Cohen, Educ. Psychol. Meas. 20 (1960) 37; weights: Cohen, Psychol. Bull. 70 (1968) 213.
    """
    first, second = (np.asarray(part, float) for part in (first, second))
    both = np.isfinite(first) & np.isfinite(second)
    table = np.zeros((categories, categories))
    np.add.at(table, (first[both].astype(int), second[both].astype(int)), 1)
    if not table.sum():
        return NAN
    table /= table.sum()
    distance = _distances(categories, "interval" if quadratic else "nominal")
    expected = (np.outer(table.sum(1), table.sum(0)) * distance).sum()
    return float(1 - (table * distance).sum() / expected) if expected > 0 else NAN


def fleiss_kappa(readings: ArrayLike, categories: int) -> float:
    """Fleiss' κ of several readers; items with fewer than two answers are left out.

    Of items with different numbers of answers each counts once, by its own share of agreeing pairs.

    Reference: Fleiss, Psychol. Bull. 76 (1971) 378.
    """
    counts = _counts(readings, categories)
    if not len(counts):
        return NAN
    agreed = _pairs_agreed(counts).mean()
    share = (counts / counts.sum(1, keepdims=True)).mean(0)
    chance = (share**2).sum()
    return float((agreed - chance) / (1 - chance)) if chance < 1 else NAN


def gwet_ac1(readings: ArrayLike, categories: int) -> float:
    """Gwet's AC1 of several readers, which stays where nearly all items are of one category.

    Reference: Gwet, Br. J. Math. Stat. Psychol. 61 (2008) 29.
    """
    counts = _counts(readings, categories)
    if not len(counts) or categories < 2:
        return NAN
    share = (counts / counts.sum(1, keepdims=True)).mean(0)
    chance = (share * (1 - share)).sum() / (categories - 1)
    return float((_pairs_agreed(counts).mean() - chance) / (1 - chance))


def krippendorff_alpha(readings: ArrayLike, level: Literal["nominal", "interval"] = "nominal") -> float:
    """Krippendorff's α of several readers; gaps are allowed.

    Args:
        readings: (readers, items), NaN where there is no answer.
        level: "nominal", or "interval" for grades and numbers, whose disagreement is the square of their distance.

    Returns:
        1 for full agreement, 0 for chance; NaN where all answers are the same, or no item has two.

    Reference: Krippendorff, Content Analysis, 3rd edition 2013, section 12.3.
    """
    readings = np.asarray(readings, float)
    values = np.unique(readings[np.isfinite(readings)])
    if not len(values):
        return NAN
    codes = np.where(np.isfinite(readings), np.searchsorted(values, readings), NAN)
    counts = _counts(codes, len(values))
    if not len(counts):
        return NAN
    # Each item adds its ordered pairs of answers, over the number of answers less one.
    weights = 1 / (counts.sum(1) - 1)
    coincidences = np.einsum("nc,nd,n->cd", counts, counts, weights) - np.diag((counts * weights[:, None]).sum(0))
    totals = coincidences.sum(0)
    distance = (values[:, None] - values) ** 2 if level == "interval" else _distances(len(values), "nominal")
    expected = (np.outer(totals, totals) * distance).sum() / (totals.sum() - 1)
    return float(1 - (coincidences * distance).sum() / expected) if expected > 0 else NAN


def _distances(categories: int, level: str) -> np.ndarray:
    step = np.arange(categories)[:, None] - np.arange(categories)
    return (step**2 if level == "interval" else step != 0).astype(float)


def _counts(readings: ArrayLike, categories: int) -> np.ndarray:
    """Answers (items, categories) of the items with two answers or more."""
    readings = np.asarray(readings, float)
    counts = np.stack([(readings == category).sum(0) for category in range(categories)], axis=1).astype(float)
    return counts[counts.sum(1) >= 2]


def _pairs_agreed(counts: np.ndarray) -> np.ndarray:
    """Share of pairs of answers that agree, item by item."""
    number = counts.sum(1)
    return (counts * (counts - 1)).sum(1) / (number * (number - 1))
