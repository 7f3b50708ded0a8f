"""How much a score varies when the training is repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Repeatability(NamedTuple):
    """Mean and sample standard deviation of a score over n repeats; the deviation of one repeat is NaN."""

    mean: float
    sd: float
    n: int


def repeatability(scores: Sequence[float]) -> Repeatability:
    """Mean ± standard deviation over repeats.

    Args:
        scores: (repeats,) one score per trained (or randomised) network.

    Returns:
        Mean, sample standard deviation (n - 1: some of the paper's are larger than the other kind can be), repeats.

    Raises:
        ValueError: no score, or one that is not finite.

    Reference: Özer, tables 3 and 4.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
        raise ValueError(f"scores: found {scores.tolist()}, expected one finite score per repeat; leave the others out")
    return Repeatability(
        float(scores.mean()), float(scores.std(ddof=1)) if len(scores) > 1 else float("nan"), len(scores)
    )
