"""The checks of maps that need no network."""

from __future__ import annotations

from typing import Any

import numpy as np


def validity(maps: np.ndarray, completeness_error: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Validity flags of maps, one table row per map.

    Args:
        maps: (n, h, w).
        completeness_error: (n,), the sum of the map less what the method promises it to be, where it promises it.

    Returns:
        Rows with `image` (index), `constant` (no two pixels differ: the map says nothing), `non_finite` (number of NaN
        or infinite pixels), `completeness_error` (None where nothing is promised) and `valid` (neither constant nor
        non-finite).
    """
    rows = []
    for index, values in enumerate(maps):
        finite = np.isfinite(values)
        constant = bool(finite.all() and values.min() == values.max())
        non_finite = int(values.size - np.count_nonzero(finite))
        error = None if completeness_error is None else float(completeness_error[index])
        rows.append(
            {
                "image": index,
                "constant": constant,
                "non_finite": non_finite,
                "completeness_error": error,
                "valid": not constant and non_finite == 0,
            }
        )
    return rows
