"""Pictures of explanations by cases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from xiqa.figures import style


@style.styled
def plot_nearest_cases(
    images: np.ndarray, cases: np.ndarray, titles: Sequence[str], labels: Sequence[Sequence[str]],
    distances: np.ndarray, data: str = "simulated",
) -> Figure:  # fmt: skip
    """Test images, and beside each the training cases that the network holds to be most like it.

    Args:
        images: (r, h, w) test images.
        cases: (r, k, h, w) their nearest training cases.
        titles: (r,) beside the test images.
        labels: (r, k) of the cases.
        distances: (r, k).
        data: `simulated`, `real` or `mixed`.
    """
    rows, k = cases.shape[:2]
    side = style.DOUBLE_COLUMN / (k + 1.3)
    figure = style.new_figure(style.DOUBLE_COLUMN, rows * side * 1.2 + 0.5)
    grid = figure.subplots(rows, k + 1, squeeze=False)
    low, high = style.robust_limits(np.asarray(images, np.float32))
    for row in range(rows):
        panels = [(images[row], None), *((cases[row, n], (labels[row][n], distances[row, n])) for n in range(k))]
        for axes, (image, told) in zip(grid[row], panels, strict=True):
            axes.imshow(np.asarray(image, np.float32), cmap=style.COUNTS_MAP, vmin=low, vmax=high)
            axes.set(xticks=[], yticks=[])
            if told is None:
                axes.set_ylabel(titles[row], fontsize=6)
            else:
                axes.set_title(f"{told[0]}, {told[1]:.2f}", fontsize=6)
    words = "Left: test images. Beside each: the nearest training cases, their class and distance."
    figure.suptitle(words, fontsize=7)
    style.note_data(figure, data)
    return figure
