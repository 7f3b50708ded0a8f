"""How far saliency methods agree with each other on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd

from xiqa.metrics.maps.map_similarity import pixel_ranks


def agreement(maps: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Mean rank correlation between the maps of each pair of methods.

    Args:
        maps: method -> (n, h, w), the same images in the same order.

    Returns:
        One row per pair: first, second, rank_correlation (mean over images of Spearman's over pixels; NaN where none
        is scored), n (images where neither map is constant or not finite), not_scored (the others).

    Raises:
        ValueError: the methods' maps differ in shape.
    """
    shapes = {method: values.shape for method, values in maps.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"maps: found shapes {shapes}, expected one shape (n, h, w)")
    methods = list(maps)
    images = next(iter(shapes.values()))[0] if shapes else 0
    correlations = np.full((images, len(methods), len(methods)), np.nan)
    for image in range(images):
        # Each map is ranked once, not once per pair: ranking is what costs time.
        ranks = {
            row: found for row, method in enumerate(methods) if (found := pixel_ranks(maps[method][image])) is not None
        }
        if ranks:
            correlations[np.ix_([image], list(ranks), list(ranks))] = np.corrcoef(list(ranks.values()))
    rows = []
    for first, second in combinations(range(len(methods)), 2):
        values = correlations[:, first, second]
        scored = values[np.isfinite(values)]
        mean = float(scored.mean()) if len(scored) else float("nan")
        rows.append((methods[first], methods[second], mean, len(scored), images - len(scored)))
    return pd.DataFrame(rows, columns=["first", "second", "rank_correlation", "n", "not_scored"])
