"""Pictures of reader studies."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from xiqa.figures import style
from xiqa.figures.classification import GRID


@style.styled
def plot_accuracy(accuracy: pd.DataFrame) -> Figure:
    """Share of right answers in each arm with its 95 % interval, and the median time for an answer.

    Args:
        accuracy: a row for each arm: name, accuracy, ci_low, ci_high, answers, seconds, data.
    """
    figure = style.new_figure(style.DOUBLE_COLUMN, 0.42 * len(accuracy) + 1.2)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    for place, row in enumerate(accuracy.itertuples()):
        left.plot([row.ci_low, row.ci_high], [place, place], color=style.BLUE, linewidth=1.5)
        left.plot(row.accuracy, place, "o", color=style.BLUE)
        right.barh(place, row.seconds, height=0.4, color=style.GREY)
    left.set_yticks(
        range(len(accuracy)), [f"{row.name} (n = {row.answers})" for row in accuracy.itertuples(index=False)]
    )
    left.set_ylim(len(accuracy) - 0.5, -0.5)
    left.set_xlim(0, 1)
    left.set_xlabel("share of right answers, 95 % interval")
    right.set_xlabel("median time (s)")
    for axes in (left, right):
        axes.grid(True, axis="x", **GRID)
    style.note_data(figure, accuracy["data"].iloc[0])
    return figure
