"""Pictures of counterfactuals beside the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from xiqa.figures import style
from xiqa.metrics.counterfactual import LEAST_AGREEMENT


@style.styled
def plot_counterfactuals(
    images: np.ndarray,
    counterfactuals: np.ndarray,
    true_changes: np.ndarray,
    titles: Sequence[str],
    agreement: float,
    data: str = "simulated",
) -> Figure:
    """Image, counterfactual, its difference from the image, and the true difference, a row for each image.

    Args:
        images: (r, h, w) in 0-1.
        counterfactuals: (r, h, w).
        true_changes: (r, h, w) of the exact counterfactual.
        titles: (r,) beside the images, such as "contrast to none".
        agreement: share of reconstructions that are decided as their images, of `passes_gate`.
        data: `simulated`.

    Raises:
        ValueError: the agreement is below 0.9, so that no counterfactual may be shown.
    """
    if not agreement >= LEAST_AGREEMENT:
        raise ValueError(
            f"agreement: found {agreement:.2f} of reconstructions decided as their images, expected "
            f"{LEAST_AGREEMENT} or more; train the autoencoder longer or with a larger feature_weight"
        )
    rows = len(images)
    changes = np.asarray(counterfactuals, np.float64) - images
    low, high = style.robust_limits(np.asarray(images, np.float32))
    limits = [style.signed_limit(changes), style.signed_limit(np.asarray(true_changes))]
    figure = style.new_figure(style.DOUBLE_COLUMN, rows * style.DOUBLE_COLUMN / 4.4 + 0.9)
    grid = figure.subplots(rows, 4, squeeze=False)
    names = ("image", "counterfactual", "difference", "true difference")
    for row, panels in enumerate(grid):
        for axes, image in zip(panels[:2], (images[row], counterfactuals[row]), strict=True):
            axes.imshow(image, cmap=style.COUNTS_MAP, vmin=low, vmax=high)
        for axes, change, limit in zip(panels[2:], (changes[row], true_changes[row]), limits, strict=True):
            axes.imshow(change, cmap=style.SIGNED_MAP, vmin=-limit, vmax=limit)
        for axes, name in zip(panels, names, strict=True):
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(name)
        panels[0].set_ylabel(titles[row])
    for column in (2, 3):
        panels = list(grid[:, column])
        style.colour_bar(panels, panels[0].images[0], "gray values", location="bottom")
    style.note_data(figure, data)
    return figure


@style.styled
def plot_reconstructions(
    images: np.ndarray, reconstructions: np.ndarray, agreement: float, data: str = "simulated"
) -> Figure:
    """Images above their reconstructions, in place of counterfactuals that may not be shown.

    Args:
        images: (r, h, w) in 0-1.
        reconstructions: (r, h, w).
        agreement: share of reconstructions that are decided as their images.
        data: `simulated`.
    """
    number = len(images)
    figure = style.new_figure(style.DOUBLE_COLUMN, 2.2 * style.DOUBLE_COLUMN / max(number, 3) + 0.7)
    grid = figure.subplots(2, number, squeeze=False)
    low, high = style.robust_limits(np.asarray(images, np.float32))
    for name, row, shown in zip(("images", "reconstructions"), grid, (images, reconstructions), strict=True):
        for axes, image in zip(row, shown, strict=True):
            axes.imshow(image, cmap=style.COUNTS_MAP, vmin=low, vmax=high)
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(name)
    figure.suptitle(
        f"No counterfactual is shown: {100 * agreement:.0f} % of reconstructions are decided as their images, "
        f"expected {100 * LEAST_AGREEMENT:.0f} %",
        fontsize=7,
    )
    style.note_data(figure, data)
    return figure
