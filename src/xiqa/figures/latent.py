"""Pictures of latent spaces: what an image becomes as one code changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from xiqa.figures import style


@style.styled
def plot_traversals(
    images: np.ndarray, values: Sequence[float], titles: Sequence[str], data: str = "simulated"
) -> Figure:
    """Decoded images, a row for each code, while that code goes through its values and the others stay at their mean.

    Args:
        images: (K, v, h, w).
        values: (v,) in standard deviations of the code.
        titles: (K,) what each code stands for.
        data: `simulated`, `real` or `mixed`.
    """
    rows, columns = images.shape[:2]
    side = (style.DOUBLE_COLUMN - 1.6) / columns
    figure = style.new_figure(style.DOUBLE_COLUMN, rows * side + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False)
    low, high = style.robust_limits(images)
    for row, title in enumerate(titles):
        for column, value in enumerate(values):
            axes = grid[row][column]
            axes.imshow(images[row, column], cmap=style.COUNTS_MAP, vmin=low, vmax=high)
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(f"{value:+.1f} SD", fontsize=7)
        grid[row][0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=7)
    figure.suptitle("Decoded cells while one code changes; rows by what the code stands for", fontsize=8)
    style.note_data(figure, data)
    return figure
